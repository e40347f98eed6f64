"""What convert leaves and says: modules that drop by a function, or by a class of their own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinned.torch import convert, strip, unconvert
from thinned.torch import functional as thinned_functional
from thinned.torch import nn as ours

# These matrices are too small for two threads, which wait for each other on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")


class DropPath(nn.Module):
    """As timm has it."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return x


class Calls(nn.Module):
    """Every way of calling that the source shows."""

    def __init__(self):
        super().__init__()
        self.drop = ours.Dropout(0.5)

    def one(self, x):
        return F.dropout(x, 0.1, self.training)

    def two(self, x):
        return torch.nn.functional.alpha_dropout(x, 0.1, self.training)

    def three(self, x):
        return F.scaled_dot_product_attention(x, x, x, None, 0.1)

    def forward(self, x):
        return self.drop(x, call=1)


class Derived(Calls):
    """What a base calls counts too."""


class Harmless(nn.Module):
    """No function of torch's that drops."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.0)
        x = F.scaled_dot_product_attention(x, x, x, None)
        return self.dropout(thinned_functional.dropout(x, 0.5, self.training))


def test_suspects():
    model = nn.ModuleDict(
        {"path": DropPath(0.1), "off": DropPath(0.0), "calls": Derived(), "none": Harmless()}
    )
    suspects = convert(model, copy=True).possible
    assert set(suspects) == {"path", "calls"}
    assert "DropPath holds drop_prob=0.1 as a number" in suspects["path"]
    for call in ("one calls F.dropout", "two calls torch.nn.functional.alpha_dropout"):
        assert f"Calls.{call}" in suspects["calls"]
    assert "Calls.three calls F.scaled_dot_product_attention" in suspects["calls"]
    for verb in (unconvert, strip):
        assert "Calls.forward passes call= to self.drop" in verb(model, copy=True).possible["calls"]


def test_the_report_can_be_read():
    report = convert(nn.Sequential(nn.Dropout(0.5), nn.LSTM(3, 4, 2, dropout=0.2), DropPath(0.1)))
    lines = str(report).splitlines()
    assert lines[:4] == ["swapped: 1", "  0: thinned.torch.nn.Dropout", "left: 1", f"  1: {report.left['1']}"]
    assert lines[4:6] == ["possible: 1", f"  2: {report.possible['2']}"]
    # A report of what was read does not say that nothing is missing.
    assert lines[6:] == [report.proof]
    assert "keyed(model, seed, check=inputs) names every draw" in report.proof
    assert str(convert(nn.Linear(2, 2))).splitlines() == ["swapped: 0", report.proof]
    assert str(unconvert(nn.Linear(2, 2))) == "swapped: 0"
    with pytest.raises(AttributeError):
        report.model = None
