"""Alpha dropout: torch's affine map, exact; mean and variance; the gradient."""

import copy
import math
import pickle

import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import keyed, nn, set_step
from thinned.torch.functional import alpha_dropout, feature_alpha_dropout

VERBS = [alpha_dropout, feature_alpha_dropout]
LAYERS = {alpha_dropout: nn.AlphaDropout, feature_alpha_dropout: nn.FeatureAlphaDropout}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LIMIT = -1.7580993408473766


def mask_of(x, p, key, whole=False):
    """By NumPy: for each element, or for each of (N, C)."""
    if not whole:
        return torch.from_numpy(thinned.keep_mask(tuple(x.shape), p, key=key))
    mask = torch.from_numpy(thinned.keep_mask(tuple(x.shape[:2]), p, key=key))
    return mask.reshape(*mask.shape, *(1,) * (x.dim() - 2)).expand(x.shape)


def affine(p):
    p = thinned.threshold(p) / 2**32
    a = 1 / math.sqrt((LIMIT * LIMIT * p + 1) * (1 - p))
    return a, -a * LIMIT * p


def reference(x, p, key, whole=False):
    a, b = affine(p)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    kept = x.to(wide) * torch.tensor(a, dtype=wide) + torch.tensor(b, dtype=wide)
    dropped = torch.tensor(a * LIMIT + b, dtype=wide)
    return torch.where(mask_of(x, p, key, whole), kept, dropped).to(x.dtype)


def sample(dtype=torch.float32, shape=(6, 7, 5, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("verb", VERBS)
def test_outputs_equal_the_reference(verb, p, dtype):
    whole = verb is feature_alpha_dropout
    for x in (sample(dtype), sample(dtype).transpose(1, 2), sample(dtype, (6, 7))):
        expected = reference(x, p, Key(3, 2), whole)
        got = verb(x, p, True, key=Key(3, 2))
        assert torch.equal(got, expected)
        assert got.stride() == x.stride()
        assert got.dtype == dtype
        own = x.clone()
        assert verb(own, p, True, True, key=Key(3, 2)) is own
        assert torch.equal(own, expected)
        layer = keyed(LAYERS[verb](p), 5)
        assert torch.equal(layer(x), reference(x, p, layer.key.fold(0), whole))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_map_is_torchs(p):
    """What it makes of a constant input is two numbers: those of kept and dropped elements."""
    for value in (0.0, -1.25):
        x = torch.full((4000,), value, dtype=torch.float64)
        theirs = torch.nn.functional.alpha_dropout(x, p, True).unique()
        ours = alpha_dropout(x, p, True).unique()
        assert len(ours) == len(theirs) == 2
        assert torch.allclose(ours, theirs, rtol=1e-7)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("verb", VERBS)
def test_mean_and_variance_stay(verb, p):
    n = 400_000
    x = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = verb(x, p, True, key=Key(8))
    fourth = y.pow(4).mean().item()
    z = {"mean": y.mean().item() * math.sqrt(n), "variance": (y.pow(2).mean().item() - 1)}
    z["variance"] *= math.sqrt(n / (fourth - 1))
    assert all(abs(score) < 5 for score in z.values()), z


@pytest.mark.parametrize("verb", VERBS)
def test_the_gradient_is_a_where_kept_and_nothing_else(verb):
    x = sample().requires_grad_()
    y = verb(x, 0.4, True, key=Key(1))
    mask = mask_of(x, 0.4, Key(1), verb is feature_alpha_dropout)
    upstream = torch.randn(x.shape).masked_fill(~mask, math.nan)
    (grad,) = torch.autograd.grad(y, x, upstream)
    a = torch.tensor(affine(0.4)[0], dtype=torch.float32)
    assert torch.equal(grad, torch.where(mask, upstream * a, 0.0))
    assert not grad[~mask].view(torch.int32).any()


@pytest.mark.parametrize("verb", VERBS)
def test_the_gradient_without_a_key(verb):
    x = torch.zeros(30, 20, requires_grad=True)
    y = verb(x, 0.4, True)
    (grad,) = torch.autograd.grad(y.sum(), x)
    kept = y.detach() > 0
    assert 0 < kept.sum() < 600
    assert torch.equal(grad != 0, kept)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own forward AD
def test_gradcheck(verb):
    x = torch.randn(5, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: verb(v, 0.4, True, key=Key(3)), x, check_forward_ad=True)
    assert torch.autograd.gradcheck(lambda v: verb(v * 2, 0.4, True, True, key=Key(3)), x)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_leaks_out_of_dropped_places(verb, value):
    x = torch.full((40, 30, 2), value, requires_grad=True)
    y = verb(x, 0.5, True, key=Key(1))
    mask = mask_of(x, 0.5, Key(1), verb is feature_alpha_dropout)
    a, b = affine(0.5)
    assert torch.equal(y[~mask], torch.full_like(y[~mask], a * LIMIT + b))
    assert not y[mask].isfinite().any()
    y.backward(torch.full_like(y, value))
    assert not x.grad[~mask].view(torch.int32).any()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_saved_for_backward_does_not_grow_with_the_input(verb, dtype):
    def saved(n):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.nbytes
            return tensor

        x = torch.ones(n, 3, dtype=dtype, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = verb(x, 0.5, True)
            verb(x, torch.tensor(0.5), True)
        assert y.requires_grad
        return total

    assert saved(10) == saved(10_000) < 100


@pytest.mark.parametrize("verb", VERBS)
def test_edge_cases(verb):
    x = torch.full((4, 3), math.nan)
    assert verb(x, 0.0, True) is x
    assert verb(x, 0.5, False) is x
    for inplace in (False, True):
        gone = verb(x.clone(), 1.0, True, inplace)
        assert not gone.view(torch.int32).any()
    assert verb(x[:0], 0.5, True).shape == (0, 3)
    for training in (True, False):
        for p in (-0.1, 1.5, math.nan):
            with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
                verb(x, p, training)
        with pytest.raises(TypeError, match="p must be a real number"):
            verb(x, "0.5", training)
        with pytest.raises(TypeError, match="input must be float32"):
            verb(x.long(), 0.5, training)
        with pytest.raises(TypeError, match="pass key or generator, not both"):
            verb(x, 0.5, training, key=Key(0), generator=torch.Generator())
    with pytest.raises(TypeError, match=r"pass training=self\.training"):
        verb(x, 0.5)
    with pytest.raises(ValueError, match="inplace=True needs elements that do not share memory"):
        verb(torch.ones(1, 3).expand(4, 3), 0.5, True, True)
    for p in (1.5, math.nan):
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
            LAYERS[verb](p)


def test_ranks():
    assert alpha_dropout(torch.tensor(0.0), 0.5, True).shape == ()
    for shape in ((), (5,)):
        with pytest.raises(ValueError, match=r"takes \(N, C, …\), got shape .* use AlphaDropout"):
            feature_alpha_dropout(torch.ones(shape), 0.5, False)


@pytest.mark.parametrize("verb", VERBS)
def test_p_as_a_tensor(verb):
    x = sample()
    p = float(torch.tensor(0.3))
    expected = verb(x, p, True, key=Key(1))
    assert torch.equal(verb(x, torch.tensor(0.3), True, key=Key(1)), expected)
    rates = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0, 0.3], dtype=torch.float64)
    got = verb(x, rates.reshape(6, 1, 1, 1), True, key=Key(1))
    for i, rate in enumerate(rates.tolist()):
        whole = verb(x, rate, True, key=Key(1))
        assert torch.equal(got[i], whole[i])
    across = verb(x, rates[:3].reshape(1, 1, 1, 3), True, key=Key(1))
    assert torch.equal(across[..., 2], verb(x, 0.5, True, key=Key(1))[..., 2])
    with pytest.raises(ValueError, match="p has no gradient"):
        verb(x, torch.tensor(0.3, requires_grad=True), True)
    with pytest.raises(ValueError, match=r"p of shape \(5,\) does not fit input of shape \(6, 7, 5, 3\)"):
        verb(x, torch.full((5,), 0.5), True)


@pytest.mark.parametrize("verb", VERBS)
def test_one_key_is_drawn(verb):
    x = sample()
    torch.manual_seed(3)
    one, two = verb(x, 0.5, True), verb(x, 0.5, True)
    assert not torch.equal(one, two)
    torch.manual_seed(3)
    torch.empty(2, dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(verb(x, 0.5, True), two)
    generator = torch.Generator().manual_seed(4)
    bits = torch.empty(2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    got = verb(x, 0.5, True, generator=torch.Generator().manual_seed(4))
    assert torch.equal(got, verb(x, 0.5, True, key=bits))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap(verb, randomness):
    """Scale and shift follow the same mask: of zeros only two numbers can come."""
    x = torch.zeros(4, 5, 6)
    for key in (None, Key(1)):
        y = torch.vmap(lambda v, k=key: verb(v, 0.5, True, key=k), randomness=randomness)(x)
        assert y.unique().numel() == 2
        assert torch.equal(y[0], y[1]) is (randomness == "same")

        def gradient(v, k=key):
            return torch.func.vjp(lambda u: verb(u, 0.5, True, key=k), v)[1](torch.ones_like(v))[0]

        if key is not None:
            grad = torch.vmap(gradient, randomness=randomness)(x)
            assert torch.equal(grad != 0, y > 0)
    with pytest.raises(RuntimeError, match="randomness error mode"):
        torch.vmap(lambda v: verb(v, 0.5, True))(x)


def test_jvp():
    x = sample()
    y, tangent = torch.func.jvp(
        lambda v: alpha_dropout(v, 0.5, True, key=Key(1)), (x,), (torch.ones_like(x),)
    )
    assert torch.equal(y, alpha_dropout(x, 0.5, True, key=Key(1)))
    a = torch.tensor(affine(0.5)[0], dtype=torch.float32)
    assert torch.equal(tangent, mask_of(x, 0.5, Key(1)) * a)


def test_the_layers_are_torchs_own_by_type_name_and_state():
    for verb, layer in LAYERS.items():
        theirs = getattr(torch.nn, layer.__name__)
        ours = layer(0.3, True)
        assert isinstance(ours, theirs)
        assert repr(ours) == repr(theirs(0.3, True))
        assert ours.state_dict() == {}
        x = sample()
        assert ours(x) is x
        assert ours.eval()(x) is x
        module = keyed(layer(0.5), 4)
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(other(x), verb(x, 0.5, True, key=module.key.fold(0)))
        assert not torch.equal(module(x, call=1), module(x))
        assert not torch.equal(set_step(module, 1)(x), verb(x, 0.5, True, key=module.key.fold(0)))
