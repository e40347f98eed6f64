"""Alpha dropout: torch's affine map, exact; mean and variance; the gradient."""

import math

import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import keyed, nn
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


def test_ranks():
    assert alpha_dropout(torch.tensor(0.0), 0.5, True).shape == ()
    for shape in ((), (5,)):
        with pytest.raises(ValueError, match=r"takes \(N, C, …\), got shape .* use AlphaDropout"):
            feature_alpha_dropout(torch.ones(shape), 0.5, False)
