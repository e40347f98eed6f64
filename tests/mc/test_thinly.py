"""Shared samples as smaller networks: the masks of the whole ones to the bit, outputs to rounding."""

import numpy as np
import pytest
import torch
from torch.nn import GELU, Conv2d, Dropout, Dropout2d, Flatten, LeakyReLU, Linear, ReLU, Sequential, Softmax

from thinned import Key, _kernel
from thinned.mc.torch import Predictor, _thinly, predict
from thinned.torch import masked, nn, thin


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch):
    for least in ("_ROWS", "_PRODUCTS", "_FEW_ROWS", "_FEW_PRODUCTS"):
        monkeypatch.setattr(_thinly, least, 1)


def network(p=0.5):
    return Sequential(
        Dropout(p / 2), Linear(7, 12), ReLU(), Dropout(p), Linear(12, 11), GELU(), Dropout(p), Linear(11, 3)
    )


def convolutions(p=0.5):
    return Sequential(
        Conv2d(2, 6, 3, padding=1),
        ReLU(),
        Dropout2d(p),
        Conv2d(6, 5, 3),
        LeakyReLU(),
        Dropout2d(p),
        Conv2d(5, 4, 1),
        Flatten(),
        Dropout(p),
        Linear(64, 2),
    )


class Turned(torch.nn.Module):
    """A linear map whose weight stands as (in, out), or apart from what is beside it."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x):
        return x @ self.weight[:, :9]


MODELS = {
    "units": (network, (5, 7)),
    "all or nothing": (
        lambda: Sequential(Linear(7, 9), Dropout(1.0), Linear(9, 5), Dropout(0.5), Linear(5, 3)),
        (5, 7),
    ),
    "a thin model": (lambda: thin(network()).model, (5, 7)),
    "few": (lambda: network(0.9), (5, 7)),
    "no bias": (lambda: Sequential(Linear(7, 9, bias=False), Dropout(0.5), Linear(9, 3, bias=False)), (5, 7)),
    "once for all samples": (lambda: Sequential(Linear(7, 9), ReLU(), Dropout(0.5), Linear(9, 3)), (5, 7)),
    "turned": (lambda: Sequential(Turned(torch.randn(7, 9)), Dropout(0.5), Linear(9, 3)), (5, 7)),
    "apart": (lambda: Sequential(Turned(torch.randn(10, 7).t()), Dropout(0.5), Linear(9, 3)), (5, 7)),
    "after a mask": (
        lambda: Sequential(
            Linear(7, 9), Dropout(0.5), Softmax(-1), Dropout(0.3), Linear(9, 8), ReLU(), Linear(8, 3)
        ),
        (5, 7),
    ),
    "channels": (convolutions, (5, 2, 6, 6)),
    "ours": (lambda: Sequential(Linear(7, 9), nn.Dropout(0.5, mode="classic"), Linear(9, 3)), (5, 7)),
    "a mask of its own": (lambda: Sequential(Linear(7, 9), Dropout(0.5), Linear(9, 9), Dropout(0.5)), (5, 7)),
}


def both(model, x, monkeypatch, **given):
    """Thinned and whole draws, and in how many calls they were thinned."""
    calls = []
    run = _thinly.Thinly.run
    monkeypatch.setattr(_thinly.Thinly, "run", lambda *args: calls.append(1) or run(*args))
    given = {"samples": 6, "key": Key(3), "keep": True, "shared": True, **given}
    thinly = predict(model.eval(), x, **given).draws
    thinned = len(calls)
    with masked():
        return thinly, predict(model, x, **given).draws, thinned, len(calls) - thinned


full = pytest.mark.full
QUICK = ("units", "channels", "a thin model")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=full) for name in MODELS if name not in QUICK)]
)
def test_samples_are_those_of_masks(name, monkeypatch):
    torch.manual_seed(1)
    make, shape = MODELS[name]
    thinly, whole, calls, others = both(make().double(), torch.randn(shape).double(), monkeypatch)
    assert calls > 0
    assert others == 0
    assert np.allclose(thinly, whole, rtol=1e-9, atol=1e-11)
    assert np.array_equal(thinly == 0, whole == 0)


@pytest.mark.parametrize(
    "name",
    ["units", *(pytest.param(name, marks=full) for name in MODELS if name not in ("units", "channels"))],
)
def test_the_kernel_multiplies_in_float32(name, monkeypatch):
    if not _kernel.multiplies():
        pytest.skip("the kernel has no products here")
    torch.manual_seed(1)
    make, shape = MODELS[name]
    maps, run = [], _kernel.linear_many
    monkeypatch.setattr(_kernel, "linear_many", lambda *given: maps.append(given) or run(*given))
    thinly, whole, calls, _ = both(make(), torch.randn(shape), monkeypatch)
    assert len(maps) >= calls > 0
    assert np.allclose(thinly, whole, rtol=1e-4, atol=1e-5)
    assert np.array_equal(thinly == 0, whole == 0)


def test_the_masks_are_the_same_to_the_bit(monkeypatch):
    """Units of which each is written to an output of its own, as they are."""
    model = Sequential(Linear(40, 40, bias=False), Dropout(0.5), Linear(40, 40, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(40))
        model[2].weight.copy_(torch.eye(40))
    thinly, whole, calls, _ = both(model, torch.ones(3, 40), monkeypatch)
    assert calls
    assert np.array_equal(thinly, whole)
    assert set(np.unique(thinly)) == {0.0, 2.0}


class Mixing(torch.nn.Module):
    """What the rest of a batch would enter, if inputs were rows of one."""

    def __init__(self, mix):
        super().__init__()
        self.first, self.drop, self.last, self.mix = Linear(7, 8), Dropout(0.5), Linear(8, 3), mix

    def forward(self, x):
        return self.mix(self.last(self.drop(self.first(x))))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + x.mean(),
        pytest.param(lambda x: x + x.mean(0, keepdim=True), marks=full),
        pytest.param(lambda x: x.cumsum(0), marks=full),
        pytest.param(lambda x: x + x.softmax(0), marks=full),
        lambda x: x + x[0],
        pytest.param(lambda x: (x.t() @ x)[: len(x)], marks=full),
        pytest.param(lambda x: x.reshape(3, -1).t() + x, marks=full),
        lambda x: (x + x.view(1, 1, 3)).view(1, 3),
    ],
)
def test_what_may_mix_inputs_is_not_thinned(mix, monkeypatch):
    torch.manual_seed(1)
    thinly, whole, calls, _ = both(Mixing(mix).double(), torch.randn(5, 7).double(), monkeypatch)
    assert not calls
    assert np.array_equal(thinly, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dropped_nan_stays_away(dtype, monkeypatch):
    model = network().to(dtype)
    x = torch.randn(5, 7).to(dtype)
    x[2, 3] = torch.nan
    thinly, whole, calls, _ = both(model, x, monkeypatch)
    assert calls
    assert np.array_equal(np.isnan(thinly), np.isnan(whole))
    assert 0 < np.isnan(thinly[:, 2]).all(-1).mean() < 1


@pytest.mark.parametrize("kernel", [False, True])
def test_sizes_choose(kernel, monkeypatch):
    if kernel and not _kernel.multiplies():
        pytest.skip("the kernel has no products here")
    monkeypatch.setattr(_kernel, "multiplies", lambda: kernel)
    few = "_FEW" if kernel else ""
    monkeypatch.setattr(_thinly, f"{few}_ROWS", 5)
    assert both(network(), torch.randn(4, 7), monkeypatch)[2] == 0
    assert both(network(), torch.randn(5, 7), monkeypatch)[2] > 0
    monkeypatch.setattr(_thinly, f"{few}_PRODUCTS", 10_000)
    assert both(network(), torch.randn(5, 7), monkeypatch)[2] == 0
    assert both(network(), torch.randn(100, 7), monkeypatch)[2] > 0


def test_a_predictor_has_the_same_bits_and_new_weights():
    model, x = network().eval(), torch.randn(5, 7)
    predictor = Predictor(model, samples=6, key=Key(3), shared=True)
    for _ in range(3):
        assert np.array_equal(predictor(x).mean, predict(model, x, samples=6, key=Key(3), shared=True).mean)
    with torch.no_grad():
        model[1].weight.mul_(2)
    assert np.array_equal(predictor(x).mean, predict(model, x, samples=6, key=Key(3), shared=True).mean)
