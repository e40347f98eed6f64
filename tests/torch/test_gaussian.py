"""Gaussian dropout: the noise of the contract, its gradient, and the operator behind it."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch.library import opcheck

from thinned import Key, contract, threshold
from thinned.torch import _plain, nn, schedules, set_step
from thinned.torch.functional import gaussian_dropout

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
BITS = torch.tensor([3, -4])
P = torch.tensor(0.3, dtype=torch.float64)


def normal(key, positions):
    """Section 6 position by position, with the quantile of Python's own library."""
    high = contract.halfword(key, positions, contract.PURPOSE_NOISE_HIGH)
    low = contract.halfword(key, positions, contract.PURPOSE_NOISE_LOW)
    quantile = NormalDist().inv_cdf
    z = [quantile((int(a) * 65536 + int(b) + 0.5) / 2**32) for a, b in zip(high.flat, low.flat, strict=True)]
    return torch.tensor(z, dtype=torch.float64).float().reshape(np.shape(positions))


def reference(x, p, key, noise_shape=None):
    sizes = [
        size if n is None else n for n, size in zip(noise_shape or (None,) * x.dim(), x.shape, strict=True)
    ]
    z = normal(key, np.arange(math.prod(sizes)).reshape(sizes))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    sigma = torch.tensor(math.sqrt(p / (1 - p)), dtype=wide)
    return (x.to(wide) * (1 + sigma * z.to(wide))).to(x.dtype)


def sample(dtype=torch.float32):
    return torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("noise", [None, (6, None, 1), (1, 5, 4), (1, 1, 1)])
def test_outputs_equal_the_reference(noise, dtype):
    key = Key(2**64 - 5, 2**63 + 1)
    for x in (sample(dtype), sample(dtype).transpose(0, 1).contiguous().transpose(0, 1)):
        for p in (0.1, 0.5, 0.9):
            expected = reference(x, p, key, noise)
            got = gaussian_dropout(x, p, True, key=key, noise_shape=noise)
            assert torch.equal(got, expected)
            assert got.stride() == x.stride()
            own = x.clone()
            assert gaussian_dropout(own, p, True, True, key=key, noise_shape=noise) is own
            assert torch.equal(own, expected)


def test_the_noise_at_far_positions_and_in_parts(monkeypatch):
    for base in (0, 2**31 - 20, 2**35 - 20, 2**60):
        got = _plain.normal((4, 10), (5, 9), base, (10, 1), torch.device("cpu"))
        positions = np.arange(40, dtype=np.uint64).reshape(4, 10) + np.uint64(base)
        assert torch.equal(got, normal(Key(5, 9), positions))
        with monkeypatch.context() as patch:
            patch.setattr(_plain, "_CHUNK", 7)
            words = (torch.tensor([[5]]), torch.tensor([[9]]))
            again = _plain.normal((4, 10), words, base, (10, 1), torch.device("cpu"))
        assert torch.equal(got, again)


def test_a_mask_in_parts_with_key_words_as_tensors(monkeypatch):
    """What a device without a kernel does with an input of more positions than it takes at a time."""
    expected = _plain.keep_mask((4, 10), (5, 9), threshold(0.4), 0, (10, 1), torch.device("cpu"))
    monkeypatch.setattr(_plain, "_CHUNK", 7)
    words = (torch.tensor([[5]]), torch.tensor([[9]]))
    drop = torch.tensor(threshold(0.4))
    got = _plain.keep_mask((4, 10), words, drop, 0, (10, 1), torch.device("cpu"))
    assert torch.equal(got, expected)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
def test_mean_variance_and_distribution(p):
    n = 200_000
    sigma = math.sqrt(p / (1 - p))
    y = gaussian_dropout(torch.ones(n, dtype=torch.float64), p, True, key=Key(4))
    scores = {
        "mean": (y.mean().item() - 1) / sigma * math.sqrt(n),
        "variance": (y.var().item() / sigma**2 - 1) * math.sqrt(n / 2),
    }
    for bound in (-2.0, 0.0, 1.0):
        q = NormalDist().cdf(bound)
        below = ((y - 1) / sigma < bound).double().mean().item()
        scores[f"below {bound}"] = (below - q) / math.sqrt(q * (1 - q) / n)
    assert all(abs(z) < 5 for z in scores.values()), scores


def test_the_noise_is_independent_of_the_mask():
    """Purposes 2 and 3, not 0 and 1."""
    n = 100_000
    z = gaussian_dropout(torch.ones(n, dtype=torch.float64), 0.5, True, key=Key(4)) - 1
    kept = torch.from_numpy(contract.keep(Key(4), np.arange(n), threshold(0.5))).double()
    assert abs(torch.corrcoef(torch.stack([z, kept]))[0, 1].item() * math.sqrt(n)) < 5


def test_the_gradient_has_the_noise_of_the_forward_pass():
    for key in (None, Key(1)):
        x = torch.ones(300, requires_grad=True)
        y = gaussian_dropout(x, 0.4, True, key=key)
        (grad,) = torch.autograd.grad(y, x, torch.ones(300))
        assert torch.equal(grad, y.detach())
    x = torch.ones(300, requires_grad=True)
    z = gaussian_dropout(x * 2, 0.4, True, True, key=Key(1))
    (grad,) = torch.autograd.grad(z.sum(), x)
    assert torch.equal(grad, y.detach() * 2)


def test_nothing_is_dropped():
    x = torch.tensor([math.nan, 1.0, math.inf, -math.inf])
    y = gaussian_dropout(x, 0.5, True, key=Key(0))
    assert y.isnan().tolist() == [True, False, False, False]
    assert y.isinf().tolist() == [False, False, True, True]


def test_p_as_a_tensor():
    x = sample()
    expected = gaussian_dropout(x, float(torch.tensor(0.3)), True, key=Key(1))
    assert torch.equal(gaussian_dropout(x, torch.tensor(0.3), True, key=Key(1)), expected)
    rates = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.9, 0.99], dtype=torch.float64)
    got = gaussian_dropout(x, rates.reshape(6, 1, 1), True, key=Key(1))
    for i, rate in enumerate(rates.tolist()):
        assert torch.equal(got[i], gaussian_dropout(x, rate, True, key=Key(1))[i])
    with pytest.raises(ValueError, match="p has no gradient"):
        gaussian_dropout(x, torch.tensor(0.3, requires_grad=True), True)
    for bad in (1.0, 2.0):
        with pytest.raises(ValueError, match=r"p < 1|p must be in \[0, 1\]"):
            torch.ops.thinned.gaussian_dropout(x, BITS, torch.tensor(bad))


@pytest.mark.parametrize(
    "rest", [(), ([6, 1, 1],), (None, [9, 9, 9], [1, 2, 3])], ids=["plain", "shared", "shard"]
)
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(rest, grad):
    x = sample(torch.bfloat16).transpose(0, 1).contiguous().transpose(0, 1).requires_grad_(grad)
    opcheck(torch.ops.thinned.gaussian_dropout.default, (x, BITS, P, *rest))


def test_vmap():
    x = torch.ones(4, 3, 5)
    keys = torch.stack([torch.tensor([7, n]) for n in range(4)])
    alone = torch.stack([gaussian_dropout(x[0], 0.5, True, key=Key(7, n)) for n in range(4)])
    own = torch.vmap(lambda v, k: gaussian_dropout(v, 0.5, True, key=k))(x, keys)
    assert torch.equal(own, alone)
    same = torch.vmap(lambda v: gaussian_dropout(v, 0.5, True, key=Key(7, 2)))(x)
    assert torch.equal(same, alone[2].expand(4, 3, 5))
    for noise in (None, (None, 1)):
        different = torch.vmap(
            lambda v, n=noise: gaussian_dropout(v, 0.5, True, key=Key(7), noise_shape=n),
            randomness="different",
        )(x)
        for i in range(4):
            expected = gaussian_dropout(x[0], 0.5, True, key=Key(7).fold(i), noise_shape=noise)
            assert torch.equal(different[i], expected)
    rates = torch.tensor([0.1, 0.2, 0.3, 0.4])
    each = torch.vmap(lambda v, p: gaussian_dropout(v, p, True, key=Key(7, 1)))(x, rates)
    for i, rate in enumerate(rates.tolist()):
        assert torch.equal(each[i], gaussian_dropout(x[0], rate, True, key=Key(7, 1)))
    with pytest.raises(RuntimeError, match="randomness error mode"):
        torch.vmap(lambda v: gaussian_dropout(v, 0.5, True))(x)
    grads = torch.vmap(torch.func.grad(lambda v: gaussian_dropout(v, 0.5, True, key=Key(7, 2)).sum()))(x)
    assert torch.equal(grads, same)


@pytest.mark.parametrize("training", [True, False])
def test_a_rate_of_one_is_refused(training):
    for p in (1, 1.0, torch.tensor(1.0), torch.ones(6, 1, 1)):
        with pytest.raises(ValueError, match=r"GaussianDropout needs p < 1, got .* infinite at p = 1"):
            gaussian_dropout(sample(), p, training)
        if not isinstance(p, int):
            with pytest.raises(ValueError, match="GaussianDropout needs p < 1"):
                nn.GaussianDropout(p)
    rising = set_step(nn.GaussianDropout(schedules.Linear(0.0, 1.0, steps=4)), 4)
    with pytest.raises(ValueError, match="GaussianDropout needs p < 1"):
        rising(sample())
    with pytest.raises(ValueError, match="does not fit x of shape"):
        gaussian_dropout(sample(), 0.5, training, noise_shape=(6, 5))
