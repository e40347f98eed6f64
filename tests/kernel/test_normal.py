"""Normal deviates: known answers, every code path against the definition, statistics."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_answers import NORMALS, QUANTILES

from thinned import Key, _kernel, contract
from thinned._quantile import normal_quantile

BASES = [0, 2**31, 2**32, 2**35, 2**60]


def normal(shape, strides, base, key, threads=1):
    out = np.full(shape, 99, dtype=np.float32)
    _kernel.normal(_kernel.address(out), shape, strides, base, key.seed, key.stream, threads)
    return out


def centred(v):
    return (np.asarray(v, dtype=np.float64) + 0.5) / 2.0**32 - 0.5


def test_quantiles_of_the_contract():
    got = normal_quantile(centred(list(QUANTILES)))
    np.testing.assert_allclose(got, list(QUANTILES.values()), rtol=1e-15)
    assert np.array_equal(got.astype(np.float32), np.array(list(QUANTILES.values())).astype(np.float32))


def test_quantiles_are_odd_and_increase():
    random = np.random.default_rng(1)
    v = np.unique(random.integers(0, 2**31, 200_000) >> random.integers(0, 31, 200_000))
    low, high = normal_quantile(centred(v)), normal_quantile(centred(2**32 - 1 - v))
    assert np.array_equal(low, -high)
    assert (np.diff(low) > 0).all()


def test_quantiles_are_those_of_the_standard_library():
    """The same algorithm with the C library's logarithm: equal after rounding but for one in millions."""
    v = np.random.default_rng(2).integers(0, 2**32, 100_000)
    inverse = statistics.NormalDist().inv_cdf
    expected = np.array([inverse((int(k) + 0.5) / 2**32) for k in v])
    got = normal_quantile(centred(v))
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert (got.astype(np.float32) != expected.astype(np.float32)).sum() <= 1


@pytest.mark.parametrize(("key", "first", "deviates"), NORMALS)
def test_known_answers(path, key, first, deviates):
    expected = np.array(deviates, dtype=np.float32)
    positions = np.arange(first, first + len(deviates), dtype=np.uint64)
    assert np.array_equal(contract.normal(key, positions), expected)
    assert np.array_equal(normal((len(deviates),), (1,), first, key), expected)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
def test_the_definition_takes_any_shape(shape):
    got = contract.normal(Key(1), np.arange(math.prod(shape)).reshape(shape))
    assert (got.shape, got.dtype) == (shape, np.float32)


@pytest.mark.parametrize("base", BASES)
def test_every_alignment_and_length(path, threads, base):
    """Starts 0…15, across the places where a counter word turns over."""
    key, first = Key(2**63 + 5, 2**40 + 3), base - 160 if base else 0
    expected = contract.normal(key, np.arange(1400, dtype=np.uint64) + np.uint64(first))
    for alignment in range(16):
        for n in (0, 1, 7, 8, 9, 63, 64, 65, 127, 129, 300, 511, 512, 513, 1300):
            got = normal((n,), (1,), first + alignment, key, threads)
            assert np.array_equal(got, expected[alignment : alignment + n]), (alignment, n)


def test_large(path):
    expected = contract.normal(Key(3, 2**50), np.arange(100_003) + 2**35 - 50_000)
    for threads in (1, 2, 3, 7):
        assert np.array_equal(normal((100_003,), (1,), 2**35 - 50_000, Key(3, 2**50), threads), expected)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((), ()),
        ((1, 1), (7, 0)),
        ((40, 50), (50, 1)),
        ((40, 50), (61, 1)),  # a shard of wider rows
        ((40, 50), (1, 0)),  # shared along rows
        ((40, 50), (0, 1)),  # shared along columns
        ((40, 50), (0, 0)),
        ((5, 30, 6, 7), (30, 1, 0, 0)),  # a channel each
        ((5, 30, 6, 7), (42, 0, 7, 1)),
        ((300, 1), (5, 1)),  # one column of a wider array
        ((20, 30), (1, 20)),
        ((3, 0, 4), (4, 4, 1)),
        ((700, 3), (1, 0)),
        ((9000, 1), (5, 1)),  # more than a tile of one column: two threads, and the second begins within it
        ((9000, 2), (3, 0)),  # shared, and more than a tile
    ],
)
def test_shapes_and_strides(path, threads, shape, strides):
    for base in (0, 2**35 - 700):
        positions = np.full(shape, base, dtype=np.uint64)
        for axis, stride in enumerate(strides):
            index = np.arange(shape[axis], dtype=np.uint64) * np.uint64(stride)
            positions += index.reshape((-1,) + (1,) * (len(shape) - axis - 1))
        got = normal(shape, strides, base, Key(4, 4), threads)
        assert np.array_equal(got, contract.normal(Key(4, 4), positions))


def test_shards_are_slices_of_the_whole(path):
    whole = normal((64, 96), (96, 1), 0, Key(8))
    shard = normal((20, 33), (96, 1), 11 * 96 + 40, Key(8))
    assert np.array_equal(shard, whole[11:31, 40:73])


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**64 - 1),
    base=st.integers(0, 2**63 - 5000),
    n=st.integers(0, 3000),
)
def test_any_window(seed, stream, base, n):
    expected = contract.normal(Key(seed, stream), np.arange(n, dtype=np.uint64) + np.uint64(base))
    before = _kernel.path()
    try:
        for name in _kernel.paths():
            _kernel.select(name)
            assert np.array_equal(normal((n,), (1,), base, Key(seed, stream)), expected), name
    finally:
        _kernel.select(before)


def test_moments_and_tails():
    """Over 2^20 draws: mean, variance, fourth moment, neighbours, and how many lie beyond 1, 2, 3 and 4."""
    n = 2**20
    z = normal((n,), (1,), 0, Key(2024)).astype(np.float64)
    scores = {
        "mean": z.mean() * math.sqrt(n),
        "variance": ((z**2).mean() - 1) * math.sqrt(n / 2),
        "fourth moment": ((z**4).mean() - 3) * math.sqrt(n / 96),
        "neighbours": (z[1:] * z[:-1]).mean() * math.sqrt(n - 1),
    }
    for distance in (1, 2, 3, 4):
        p = math.erfc(distance / math.sqrt(2))
        scores[f"beyond {distance}"] = ((abs(z) > distance).sum() - n * p) / math.sqrt(n * p * (1 - p))
    assert max(map(abs, scores.values())) < 4, scores


def test_deviates_do_not_follow_the_mask():
    """Purposes 2 and 3 beside 0 and 1: over 2^20 positions the deviates of what is kept have mean 0."""
    n = 2**20
    z = normal((n,), (1,), 0, Key(2024)).astype(np.float64)
    kept = contract.keep(Key(2024), np.arange(n), 2**31)
    score = (z[kept].sum() - z[~kept].sum()) / math.sqrt(n)
    assert abs(score) < 4, score
