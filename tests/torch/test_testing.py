"""`thinned.testing`: the audit as an assertion."""

import pytest
import torch

from thinned.testing import assert_dropout_healthy

X = torch.randn(64, 8)
TWICE = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.5), torch.nn.Linear(8, 8))


def test_a_healthy_model_passes():
    assert_dropout_healthy(torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 8)), X, repeats=2)


def test_a_fault_is_named():
    with pytest.raises(AssertionError, match="dropout is not healthy:\nTHN410 1: "):
        assert_dropout_healthy(TWICE, X)


def test_a_rule_can_be_ignored():
    assert_dropout_healthy(TWICE, X, ignore=["THN410"])


def test_a_code_that_is_none_is_refused():
    with pytest.raises(ValueError, match="ignore must hold codes such as THN411, got 'THN101'"):
        assert_dropout_healthy(TWICE, X, ignore=["THN101"])
