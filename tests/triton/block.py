"""DropBlock's kernels: blocks grown from the contract's mask of the seeds, to the bit."""

import itertools
import math

import numpy as np
import pytest
import torch
from arrays import DTYPES, array, numbers, rate
from equal_bits import assert_equal_bits

import thinned
from thinned import Key
from thinned._boxes import seed_rate
from thinned.contract import threshold
from thinned.torch import _key, functional

KEY = Key(2**63 + 11, 2**40 + 3)
BITS = _key.key_to_tensor(KEY)


def drop(x, p, block, *rest):
    p = p if isinstance(p, torch.Tensor) else rate(p)
    return torch.ops.thinned.drop_block(x, BITS, p, list(block), *rest)


def formula(x, p, block, start=0, step=1, scaled=True, coupled=False):
    """In NumPy, one place of a block after another. p is one number, or one for samples and channels."""
    data = np.ascontiguousarray(array(x))
    samples, channels = data.shape[0], 1 if coupled else data.shape[1]
    sizes = data.shape[2:]
    block = tuple(min(side, size) for side, size in zip(block, sizes, strict=True))
    firsts = tuple(size - side + 1 for size, side in zip(sizes, block, strict=True))
    rates = np.broadcast_to(np.asarray(p, np.float64), (samples, channels, *(1,) * len(sizes)))
    dropped = np.zeros((samples, channels, *sizes), bool)
    for n, c in np.ndindex(samples, channels):
        gamma = seed_rate(threshold(float(rates[n, c].flat[0])) / 2.0**32, sizes, block)
        whole = {"global_shape": (start + samples * step, channels, *firsts)}
        first = {"start": (start + n * step, c, *(0 for _ in firsts))}
        seeds = ~thinned.keep_mask((1, 1, *firsts), gamma, key=KEY, **whole, **first)[0, 0]
        for at in itertools.product(*map(range, block)):
            place = tuple(slice(a, a + size) for a, size in zip(at, firsts, strict=True))
            dropped[(n, c, *place)] |= seeds
    kept = (~dropped).reshape(samples, -1).sum(1)
    factor = np.where(kept > 0, dropped[0].size / np.maximum(kept, 1), 0.0) if scaled else np.ones(samples)
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    value = data.astype(wide) * factor.astype(wide).reshape(-1, *(1,) * (data.ndim - 1))
    return np.where(dropped, wide(0), value).astype(data.dtype)


def check(x, p, block, *rest):
    ours = np.ascontiguousarray(array(drop(x, p, block, *rest)))
    assert_equal_bits(ours, formula(x, p, block, *rest))


@pytest.fixture(autouse=True)
def _served(kernels_serve_the_cpu, monkeypatch):
    """No test passes by the operators."""
    monkeypatch.setattr("thinned.torch._block._blocks", None)


@pytest.mark.parametrize(
    "dtype", [d if d.itemsize == 4 else pytest.param(d, marks=pytest.mark.full) for d in DTYPES], ids=str
)
def test_values(dtype):
    check(numbers((2, 3, 9, 10), dtype), 0.3, (3, 2))


MAPS = [((70,), (5,)), ((2, 90), (1, 40)), ((3, 200), (2, 130)), ((4, 5, 36), (2, 3, 33)), ((7, 8), (9, 9))]


@pytest.mark.full
@pytest.mark.parametrize(("sizes", "block"), MAPS)
def test_maps_and_blocks_of_all_sizes(sizes, block):
    """Wider than a word, than a word and the one before, and than the map."""
    check(numbers((2, 2, *sizes)), 0.4, block)


@pytest.mark.full
@pytest.mark.parametrize("rest", [(), (0, 1, False), (5, 3), (0, 1, True, True), (2**40 + 1, 2, True, True)])
def test_samples_of_a_larger_batch_and_options(rest):
    check(numbers((3, 2, 8, 9)), 0.3, (2, 3), *rest)
    check(numbers((3, 8, 8, 8)), 0.3, (1, 1), *rest)  # whose rows begin with a block


@pytest.mark.full
def test_layouts():
    x = numbers((2, 4, 9, 10))
    for coupled in (False, True):
        for one in (
            x.contiguous(memory_format=torch.channels_last),
            x.transpose(2, 3),
            x[:, ::2, 1:, ::3],
            x[:, :, :, :1].expand(2, 4, 9, 10),
            x[:1, :1, :1, :1],
        ):
            check(one, 0.3, (2, 2), 0, 1, True, coupled)
    assert drop(x.transpose(1, 2), 0.3, (2, 2)).stride() == x.transpose(1, 2).stride()
    assert drop(x[:0], 0.3, (2, 2)).shape == x[:0].shape


@pytest.mark.parametrize(
    "shape", [*(pytest.param(s, marks=pytest.mark.full) for s in [(3, 1, 1, 1), (1, 2, 1, 1)]), (3, 2, 1, 1)]
)
def test_a_p_for_each_sample_and_channel(shape):
    p = torch.linspace(0, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
    check(numbers((3, 2, 8, 9)), p, (2, 3))


@pytest.mark.full
@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_key_and_rate_are_read_by_the_kernel():
    check(numbers((2, 3, 9, 10)), 0.3, (3, 2))


@pytest.mark.full
def test_ties_are_decided_by_the_whole_rule(monkeypatch):
    """With D of a seed that ties, and one above."""
    monkeypatch.setattr("thinned.torch._block.seed_rate", lambda p, *_: p)
    monkeypatch.setitem(globals(), "seed_rate", lambda p, *_: p)
    key = Key(5, 5)
    monkeypatch.setitem(globals(), "KEY", key)
    monkeypatch.setitem(globals(), "BITS", _key.key_to_tensor(key))
    # CONTRACT.md, section 7: of these, which all tie at p = 0.1, only one is kept.
    for position, kept in {28166: 0, 43346: 0, 206461: 1, 614574: 1}.items():
        y = drop(torch.ones(1, 1, 40), 0.1, (1,), position // 40, 1, False)
        assert bool(y[0, 0, position % 40]) == bool(kept)
        check(torch.ones(1, 1, 40), 0.1, (1,), position // 40, 1, False)


@pytest.mark.full
def test_parts_of_a_large_sample_are_added_up(monkeypatch):
    monkeypatch.setattr("thinned.torch._triton._launch_block._WORDS", 16)
    monkeypatch.setattr("thinned.torch._triton._launch_block._THREADS", 32)
    check(numbers((2, 3, 20, 37)), 0.2, (3, 3))


@pytest.mark.full
def test_verbs_and_their_gradients():
    x, upstream = numbers((2, 3, 9, 10), seed=1), numbers((2, 3, 9, 10), seed=2)
    x.requires_grad_()
    y = functional.drop_block2d(x, 0.3, 3, True, key=KEY)
    (grad,) = torch.autograd.grad(y, x, upstream)
    assert_equal_bits(array(y), formula(x.detach(), 0.3, (3, 3)))
    assert_equal_bits(array(grad), formula(upstream, 0.3, (3, 3)))


@pytest.mark.full
def test_a_sample_that_is_dropped_whole_is_zero():
    assert not drop(numbers((2, 2, 4, 4)), 1.0, (2, 2)).any()
