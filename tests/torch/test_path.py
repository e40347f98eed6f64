"""Stochastic depth: samples or batches, and what becomes of the scale."""

import copy
import math
import pickle

import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import keyed, keys, nn, set_step
from thinned.torch.functional import drop_path, stochastic_depth

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def reference(x, p, key, *, rows=True, scaled=True):
    """One decision a row, or one in all, by NumPy; then one multiplication."""
    mask = torch.from_numpy(thinned.keep_mask(len(x) if rows else 1, p, key=key))
    factor = thinned.scale(p) if scaled else 1.0
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    value = (x.to(wide) * torch.tensor(factor, dtype=wide)).to(x.dtype)
    return torch.where(mask.reshape(-1, *(1,) * (x.dim() - 1)), value, torch.zeros((), dtype=x.dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64,), (64, 3), (64, 3, 4, 5)], ids=str)
def test_outputs_equal_the_reference(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    key = Key(3, 4)
    expected = reference(x, 0.3, key)
    assert 0 < (expected.reshape(64, -1)[:, 0] == 0).sum() < 64
    assert torch.equal(drop_path(x, 0.3, True, key=key), expected)
    assert torch.equal(drop_path(x, 0.3, True, False, key=key), reference(x, 0.3, key, scaled=False))
    assert torch.equal(stochastic_depth(x, 0.3, "row", True, key=key), expected)
    seen = set()
    for data in range(20):
        one = key.fold(data)
        y = stochastic_depth(x, 0.3, "batch", True, key=one)
        assert torch.equal(y, reference(x, 0.3, one, rows=False))
        seen.add(bool((y == 0).all()))
    assert seen == {True, False}


def test_the_layers_draw_by_their_key():
    x = torch.randn(32, 3, 2)
    layers = {
        nn.DropPath(0.4): reference(x, 0.4, Key(1).fold("0").fold(5)),
        nn.DropPath(0.4, scale_by_keep=False): reference(x, 0.4, Key(1).fold("1").fold(5), scaled=False),
        nn.StochasticDepth(0.4, "row"): reference(x, 0.4, Key(1).fold("2").fold(5)),
        nn.StochasticDepth(0.4, "batch"): reference(x, 0.4, Key(1).fold("3").fold(5), rows=False),
    }
    set_step(keyed(torch.nn.Sequential(*layers), 1), 5)
    for layer, expected in layers.items():
        for each in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(each(x), expected)
            assert not torch.equal(
                torch.stack([each(x, call=n) for n in range(9)]), expected.expand(9, -1, -1, -1)
            )


def test_without_the_scale_evaluation_is_the_input_itself():
    """As in timm; `dropout(mode="classic")` would multiply by 1 − p."""
    x = torch.randn(6, 2)
    for scaled in (True, False):
        assert drop_path(x, 0.4, False, scaled) is x
        assert nn.DropPath(0.4, scaled).eval()(x) is x
    assert stochastic_depth(x, 0.4, "batch", False) is x


def test_the_gradient_has_the_mask_of_the_forward_pass():
    x = torch.ones(500, 3, requires_grad=True)
    for scaled in (True, False):
        y = drop_path(x, 0.5, True, scaled)
        (grad,) = torch.autograd.grad(y, x, torch.ones_like(y).masked_fill_(y.detach() == 0, math.nan))
        assert torch.equal(grad, y.detach())


def test_means():
    n = 100_000
    x = torch.ones(n)
    for p in (0.1, 0.5):
        deviation = math.sqrt(p * (1 - p) / n)
        y = drop_path(x, p, True, key=Key(1))
        assert abs((y.mean().item() - 1) * (1 - p) / deviation) < 5
        y = drop_path(x, p, True, False, key=Key(1))
        assert abs((y.mean().item() - (1 - p)) / deviation) < 5


def test_names_of_others():
    layer = nn.DropPath(0.25)
    assert layer.drop_prob == 0.25
    layer.p = 0.5
    assert layer.drop_prob == 0.5
    with pytest.raises(AttributeError):
        layer.drop_prob = 0.1
    assert repr(layer) == "DropPath(p=0.5)"
    assert repr(nn.DropPath(0.5, False)) == "DropPath(p=0.5, scale_by_keep=False)"
    assert repr(nn.StochasticDepth(0.5, "batch")) == "StochasticDepth(p=0.5, mode=batch)"
    assert layer.state_dict() == {}


def test_the_probability_has_timms_name_too():
    x = torch.ones(16, 3)
    expected = drop_path(x, 0.3, True, key=Key(1))
    assert torch.equal(drop_path(x, drop_prob=0.3, training=True, key=Key(1)), expected)
    assert torch.equal(nn.DropPath(drop_prob=0.3)(x, key=Key(1)), expected)
    with keys(torch.nn.Identity(), 1), pytest.raises(TypeError, match=r"got p=0\.3 and drop_prob=0\.3"):
        drop_path(x, 0.3, True, drop_prob=0.3)
    with pytest.raises(
        TypeError, match="pass p, or drop_prob as timm names it, got p=None and drop_prob=None"
    ):
        nn.DropPath()
    model = torch.nn.Sequential(torch.nn.Flatten())
    model.forward = lambda x: drop_path(x, drop_prob=0.3, training=True)
    with keys(model, 1):
        assert torch.equal(model(x), drop_path(x, 0.3, True, key=Key(1).fold("").fold(0)))


@pytest.mark.parametrize("training", [True, False])
def test_a_sample_and_a_mode_have_to_be_there(training):
    for verb in (drop_path, lambda x, p, t: stochastic_depth(x, p, "row", t)):
        with pytest.raises(ValueError, match=r"takes \(N, …\), got shape \(\): .* pass input\[None\]"):
            verb(torch.tensor(1.0), 0.5, training)
    assert not drop_path(torch.full((8, 3), math.nan), 1.0, True, False).view(torch.int32).any()
    assert stochastic_depth(torch.tensor(1.0), 0.5, "batch", True).item() in (0.0, 2.0)
    for wrong in (
        lambda: stochastic_depth(torch.ones(3), 0.5, "rows", training),
        lambda: nn.StochasticDepth(0.5, "rows"),
    ):
        with pytest.raises(ValueError, match='mode must be "row" or "batch", got \'rows\''):
            wrong()
