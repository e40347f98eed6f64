"""`thinned.torch.keys`: in training any model's masks are a function of seed, name and step."""

import copy
import warnings

import pytest
import torch
from mc import zoo
from torch import nn
from torch.nn import functional as F
from torch_keyed_models import X

import thinned
from thinned.torch import keyed, keys, set_step
from thinned.torch import nn as tn


def test_a_mask_is_that_of_seed_name_and_step():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Identity(), nn.Dropout(0.5)))
    with keys(model, 7, step=3):
        y = model[1](X)
    want = thinned.torch.functional.dropout(X, 0.5, True, key=thinned.Key(7).fold("1.1").fold(3))
    assert torch.equal(y, want)


def test_masks_are_those_of_converted_and_keyed_layers():
    model = nn.Sequential(
        nn.Linear(8, 8), nn.Dropout(0.5), nn.Sequential(nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.3))
    )
    with keys(model, 7, step=5):
        theirs = model(X.unsqueeze(1))
    other = copy.deepcopy(model)
    thinned.torch.convert(other)
    set_step(keyed(other, 7), 5)
    assert torch.equal(theirs, other(X.unsqueeze(1)))


def test_further_draws_of_a_module_are_folded_by_their_number():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x), self.drop(x), F.dropout(x), F.dropout(x)

    model = Twice()
    with keys(model, 7, step=2):
        found = model(X)
    root = thinned.Key(7)
    drop, own = root.fold("drop").fold(2), root.fold("").fold(2)
    for y, key in zip(found, (drop, drop.fold(1), own, own.fold(1)), strict=True):
        assert torch.equal(y, thinned.torch.functional.dropout(X, 0.5, True, key=key))


@pytest.mark.parametrize("name", zoo.CASES)
def test_any_model_is_a_function_of_seed_name_and_step(name):
    model, x = zoo.build(zoo.CASES[name])
    model.train()
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with keys(model, 1, step=3) as run, torch.no_grad():
            a = model(x)
            sites = run.sites
            b = model(x)
            steps = []
            for run.step in range(20):  # one decision at p = 0.3 is the same in all with 8e-4
                steps.append(model(x))
        with keys(copy.deepcopy(model), thinned.Key(1), step=torch.tensor(3)) as run, torch.no_grad():
            resumed = run.model(x)
    stateful = name == "batch norm"  # of whose statistics the output is none in training
    assert torch.equal(a, b) or stateful
    assert torch.equal(a, resumed) or stateful
    assert any(not torch.equal(a, c) for c in steps)
    assert torch.equal(a, steps[3]) or stateful
    if not zoo.CASES[name].keyed:  # a recurrent layer of ours has one key for its parts
        assert [float(site.p) for site in sites] == pytest.approx(zoo.CASES[name].rates, abs=1e-6)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", ["encoder", "attention", "lstm", "drop path", "functional", "alpha"])
def test_what_evaluates_does_not_drop(name):
    model, x = zoo.build(zoo.CASES[name])
    with torch.no_grad():
        want = model(x)
        with keys(model, 1) as run:
            torch.testing.assert_close(model(x), want)
    assert run.sites == []


def test_keyed_layers_keep_their_keys_and_others_of_ours_get_one():
    torch.manual_seed(0)
    layer = tn.LSTM(8, 8, 2, dropout=0.3, weight_p=0.2, input_p=0.1)
    x = torch.ones(3, 2, 8)
    with keys(layer, 7, step=2) as run:
        unkeyed = layer(x)[0]
    assert run.sites
    set_step(keyed(layer, 7), 2)
    with keys(layer, 1, step=5) as run:
        assert torch.equal(layer(x)[0], unkeyed)
    assert run.sites == []
    assert torch.equal(layer(x)[0], unkeyed)
