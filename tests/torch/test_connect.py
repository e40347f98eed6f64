"""DropConnect: one mask for the batch as a parametrization, one for each sample as a layer."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize

import thinned
from thinned import Key
from thinned.torch import keyed, nn, set_step
from thinned.torch.functional import drop_connect_linear

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ORIGINAL = "parametrizations.weight.original"


def dropped(weight, p, key):
    kept = torch.from_numpy(thinned.keep_mask(tuple(weight.shape), p, key=key))
    return torch.where(kept, weight * thinned.scale(p), 0.0)


def whole(*shape, dtype=torch.float32, seed=0):
    """Small whole numbers: sums of their products are exact in any order."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def plain(x, weight, bias, p, key):
    """Sample by sample, in double."""
    each = dropped(weight.double().expand(x.shape[0], *weight.shape), p, key)
    rows = [F.linear(one, w, bias.double()) for one, w in zip(x.double(), each, strict=True)]
    return torch.stack(rows).to(x.dtype)


# One mask for the batch.


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: torch.nn.Linear(6, 5), torch.randn(3, 6)),
        (lambda: torch.nn.Conv2d(2, 3, 3), torch.randn(3, 2, 5, 5)),
        (lambda: torch.nn.Embedding(7, 4), torch.tensor([[1, 2, 6]])),
    ],
    ids=["Linear", "Conv2d", "Embedding"],
)
def test_any_layer_reads_a_dropped_weight(make, x):
    layer = make()
    weight = layer.weight
    model = keyed(torch.nn.Sequential(nn.drop_connect(layer, p=0.3)), 5)
    masked = dropped(weight.detach(), 0.3, Key(5).fold("0.parametrizations.weight.0").fold(0))
    assert torch.equal(layer.weight, masked)
    other = make()
    other.load_state_dict({"weight": masked, **({"bias": layer.bias} if hasattr(layer, "bias") else {})})
    y = model(x)
    assert torch.equal(y, other(x))
    y.sum().backward()
    other(x).sum().backward()
    expected = dropped(other.weight.grad, 0.3, Key(5).fold("0.parametrizations.weight.0").fold(0))
    assert torch.equal(weight.grad, expected)
    assert model.eval()[0].weight is weight


def test_torchs_own_registration():
    layer = torch.nn.Linear(6, 5)
    weight = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", nn.DropConnect(0.5))
    keyed(layer, 3)
    assert torch.equal(layer.weight, dropped(weight, 0.5, Key(3).fold("parametrizations.weight.0").fold(0)))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    nn.drop_connect(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 5)))
    nn.drop_connect(layer, "bias", 0.5)
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    assert type(layer.parametrizations.bias[0]) is nn.DropConnect


def test_registration_draws_nothing():
    layer = torch.nn.Linear(6, 5)
    state = torch.get_rng_state()
    nn.drop_connect(layer)
    assert torch.equal(state, torch.get_rng_state())


def test_each_reading_has_a_mask_and_cached_has_one():
    layer = nn.drop_connect(torch.nn.Linear(30, 30), p=0.5)
    assert not torch.equal(layer.weight, layer.weight)
    with parametrize.cached():
        weight = layer.weight
        assert layer.weight is weight
        x = torch.randn(3, 30)
        assert torch.equal(layer(x), F.linear(x, weight, layer.bias))
    assert not torch.equal(layer.weight, weight)


def test_a_layer_in_evaluation_stays_there():
    layer = nn.drop_connect(torch.nn.Linear(30, 30).eval(), p=0.5)
    assert not (layer.weight == 0).any()


def test_the_trained_weight_is_kept():
    layer = torch.nn.Linear(6, 5)
    weight = layer.weight
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    nn.drop_connect(layer)
    before = weight.detach().clone()
    layer(torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(weight, before)
    trained = weight.detach().clone()
    assert nn.remove_drop_connect(layer) is layer
    assert layer.weight is weight
    assert torch.equal(weight, trained)
    assert type(layer) is torch.nn.Linear
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_assigned_weights_are_the_trained_ones():
    layer = nn.drop_connect(torch.nn.Linear(6, 5))
    layer.weight = torch.ones(5, 6)
    assert torch.equal(nn.remove_drop_connect(layer).weight, torch.ones(5, 6))


def test_state_dicts_go_round():
    one, other = (nn.drop_connect(torch.nn.Linear(6, 5)) for _ in range(2))
    assert sorted(one.state_dict()) == ["bias", ORIGINAL]
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.parametrizations.weight.original, one.parametrizations.weight.original)
    assert torch.equal(nn.remove_drop_connect(other).weight, one.state_dict()[ORIGINAL])


@pytest.mark.parametrize("first", [True, False])
def test_other_parametrizations_stay(first):
    layer = torch.nn.Linear(6, 5)
    if first:
        nn.drop_connect(layer)
    parametrize.register_parametrization(layer, "weight", Doubled())
    if not first:
        nn.drop_connect(layer)
    original = layer.parametrizations.weight.original
    nn.remove_drop_connect(layer)
    assert len(layer.parametrizations.weight) == 1
    assert torch.equal(layer.weight, original * 2)


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return weight * 2

    def right_inverse(self, weight):
        return weight / 2


def test_weight_norm_below():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 5))
    weight = layer.weight.detach()
    nn.drop_connect(layer, p=0.5)
    assert bool((layer.weight == 0).any())
    assert torch.equal(nn.remove_drop_connect(layer).weight, weight)


def test_copies_draw_alike_and_pickling_is_torchs_error():
    model = keyed(nn.drop_connect(torch.nn.Linear(6, 5)), 1)
    assert torch.equal(copy.deepcopy(model).weight, model.weight)
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(model)
    site = nn.DropConnect(0.5)
    keyed(site, 1)
    x = torch.ones(50)
    assert torch.equal(pickle.loads(pickle.dumps(site))(x), site(x))


def test_refusals():
    layer = nn.drop_connect(torch.nn.Linear(6, 5))
    with pytest.raises(ValueError, match="drops already"):
        nn.drop_connect(layer)
    with pytest.raises(ValueError, match="module has no parameter 'weights'"):
        nn.drop_connect(layer, "weights")
    with pytest.raises(ValueError, match="Linear has no DropConnect on 'weight'"):
        nn.remove_drop_connect(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="LSTM keeps its weights in a list"):
        nn.drop_connect(torch.nn.LSTM(2, 2), "weight_hh_l0")
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        nn.drop_connect(torch.nn.Linear(2, 2), p=1.5)


# One mask for each sample.


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6), (4, 2, 2, 6), (0, 6), (4, 0, 6)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_sample_has_its_mask(shape, dtype):
    x, weight, bias = whole(*shape, dtype=dtype), whole(5, 6, dtype=dtype), whole(5, dtype=dtype)
    got = drop_connect_linear(x, weight, bias, 0.5, True, key=Key(2))
    expected = plain(x, weight, bias, 0.5, Key(2)) if x.shape[0] else x.new_zeros(0, 5)
    assert torch.equal(got, expected)
    assert got.dtype == dtype
    if len(shape) == 2 and x.shape[0]:
        alone = drop_connect_linear(x[0], weight, bias, 0.5, True, key=Key(2))
        assert torch.equal(alone, got[0])
        assert torch.equal(drop_connect_linear(x[:2], weight, bias, 0.5, True, key=Key(2)), got[:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype):
    x, weight, bias = torch.randn(4, 60).to(dtype), torch.randn(9, 60).to(dtype), torch.randn(9).to(dtype)
    got = drop_connect_linear(x, weight, bias, 0.3, True, key=Key(2))
    wide = drop_connect_linear(x.float(), weight.float(), bias.float(), 0.3, True, key=Key(2))
    assert torch.equal(got, wide.to(dtype))


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)], ids=str)
def test_gradients_have_the_masks(shape):
    x, weight, bias = (t.requires_grad_() for t in (whole(*shape), whole(5, 6), whole(5)))
    y = drop_connect_linear(x, weight, bias, 0.5, True, key=Key(2))
    upstream = whole(*y.shape, seed=1)
    got = torch.autograd.grad(y, (x, weight, bias), upstream)
    expected = torch.autograd.grad(plain(x, weight, bias, 0.5, Key(2)), (x, weight, bias), upstream)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)


def test_no_samples_weights_are_saved():
    x, weight = torch.randn(8, 30, requires_grad=True), torch.randn(20, 30, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        drop_connect_linear(x, weight, None, 0.5, True)
    assert sum(t.numel() for t in saved) == x.numel() + weight.numel() + 3  # a key and p


def test_under_autocast():
    """As torch's linear, it returns autocast's dtype; nothing is rounded before."""
    x, weight = torch.randn(3, 6), torch.randn(5, 6, requires_grad=True)
    with torch.autocast("cpu"):
        y = drop_connect_linear(x, weight, None, 0.5, True, key=Key(1))
        assert drop_connect_linear(x, weight, None, 0.5, False).dtype == y.dtype == torch.bfloat16
    y.sum().backward()
    assert torch.equal(y, drop_connect_linear(x, weight, None, 0.5, True, key=Key(1)).bfloat16())
    assert weight.grad.dtype == torch.float32


def test_the_mean_over_masks_is_the_evaluation():
    x, weight = torch.ones(20_000, 8), torch.full((1, 8), 0.5)
    y = drop_connect_linear(x, weight, None, 0.3, True, key=Key(4)).double()
    z = (y.mean() - 4.0) / (y.std() / 20_000**0.5)
    assert abs(z) < 5


def test_the_layer():
    model = keyed(torch.nn.Sequential(nn.DropConnectLinear(6, 5, p=0.5)), 7)
    set_step(model, 2)
    (layer,) = model
    assert isinstance(layer, torch.nn.Linear)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    x = torch.randn(4, 6)
    expected = drop_connect_linear(x, layer.weight, layer.bias, 0.5, True, key=Key(7).fold("0").fold(2))
    assert torch.equal(model(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert not torch.equal(layer(x, call=1), expected)
    assert torch.equal(model.eval()(x), F.linear(x, layer.weight, layer.bias))


def test_p_zero_p_one_and_no_training():
    x, weight = (torch.full(shape, math.nan, requires_grad=True) for shape in ((4, 6), (5, 6)))
    bias = torch.randn(5)
    y = drop_connect_linear(x, weight, bias, 1.0, True)
    assert torch.equal(y, bias.expand(4, 5))
    y.sum().backward()
    assert not x.grad.any()
    assert not weight.grad.any()
    weight = torch.randn(5, 6)
    clean = torch.randn(4, 6)
    assert torch.equal(drop_connect_linear(clean, weight, bias, 0.0, True), F.linear(clean, weight, bias))
    with pytest.raises(TypeError, match=r"pass training=self\.training"):
        drop_connect_linear(clean, weight, bias, 0.5)


def test_a_weight_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"weight of shape \(5, 6\) does not fit input of shape \(4, 5\)"):
        drop_connect_linear(torch.ones(4, 5), torch.ones(5, 6), None, 0.5, False)
