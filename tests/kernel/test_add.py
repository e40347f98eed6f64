"""Residual and dropout in one pass: the bits of a pass of dropout and then an addition."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_answers import TIES

from thinned import Key, _kernel, contract, scale, threshold

BASES = [0, 2**31, 2**32, 2**35, 2**60]
CODES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}


def np_dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def add(x, residual, out, key, p, base=0, threads=1):
    where = (_kernel.address(array) for array in (x, residual, out))
    words = (key.seed, key.stream, threshold(p), scale(p), threads)
    _kernel.add(CODES[x.dtype.name], *where, x.size, base, *words)
    return out


def two_passes(x, residual, key, p, base=0):
    """By the contract, and an addition that is NumPy's, or for bfloat16 that of ml_dtypes."""
    kept = contract.keep(key, np.arange(x.size, dtype=np.uint64) + np.uint64(base), threshold(p))
    with np.errstate(all="ignore"):
        return contract.apply_mask(x, kept, scale(p)) + residual


def assert_same_bits(got, expected):
    """Equal bits; of a NaN only that it is one."""
    nan = np.isnan(expected.astype(np.float64))
    assert np.array_equal(np.isnan(got.astype(np.float64)), nan)
    assert got[~nan].tobytes() == expected[~nan].tobytes()


def normals(n, dtype, seed=1):
    return np.random.default_rng(seed).standard_normal((2, n)).astype(dtype)


@pytest.mark.covering("threads", "base", strength=1)  # so few elements are one thread's
@pytest.mark.parametrize("base", BASES)
def test_every_alignment(path, threads, base, dtype_name):
    """Starts and addresses 0…15, across the turns of a counter word; nothing beside is touched."""
    first = base - 96 if base else 0
    x, residual = normals(320, np_dtype(dtype_name))
    expected = two_passes(x, residual, Key(7, 9), 0.3, first)
    for alignment in range(16):
        for n in (0, 1, 7, 8, 63, 64, 65, 127, 128, 129, 200, 300):
            part, out = slice(alignment, alignment + n), np.full_like(x, 7)
            add(x[part], residual[part], out[part], Key(7, 9), 0.3, first + alignment, threads)
            assert out[part].tobytes() == expected[part].tobytes(), (alignment, n)
            assert (out[: part.start] == 7).all()
            assert (out[part.stop :] == 7).all()


@pytest.mark.parametrize("target", ["x", "residual"])
def test_out_may_be_an_input(path, threads, dtype_name, target):
    x, residual = normals(50_000, np_dtype(dtype_name))
    expected = two_passes(x, residual, Key(1, 2), 0.1, 5)
    out = x if target == "x" else residual
    add(x, residual, out, Key(1, 2), 0.1, 5, threads)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_kept_and_all_dropped(path, threads, dtype_name, p):
    """Also the sign of zero: +0 + −0 is +0, whatever stood in the place of the dropped."""
    x, residual = normals(3001, np_dtype(dtype_name))
    x[:2], residual[:2] = np.nan, -0.0
    got = add(x, residual, np.empty_like(x), Key(1), p, threads=threads)
    assert_same_bits(got, two_passes(x, residual, Key(1), p))
    if p == 1:
        assert not np.signbit(got[:2].astype(np.float64)).any()


def test_ties(path, dtype_name):
    """Positions whose first halfword ties."""
    for position, kept in TIES.items():
        x, residual = np.ones(200, np_dtype(dtype_name)), np.zeros(200, np_dtype(dtype_name))
        got = add(x, residual, np.empty_like(x), Key(5, 5), 0.1, position - 100)
        assert (got[100] != 0) == kept
        assert got.tobytes() == two_passes(x, residual, Key(5, 5), 0.1, position - 100).tobytes()


def some_of_everything(dtype, seed):
    """Every 16-bit number in a random order; of the wider types as many patterns of any kind."""
    random = np.random.default_rng(seed)
    if dtype.itemsize == 2:
        return random.permutation(2**16).astype(np.uint16).view(dtype)
    return np.frombuffer(random.bytes(2**16 * dtype.itemsize), dtype=dtype)


@pytest.mark.covering("p", "seed", strength=1)  # each seed has every number of 16 bits
@pytest.mark.parametrize("p", [0.0, 2.0**-32, 0.1, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_every_kind(path, dtype_name, p, seed):
    """Subnormal, infinite, NaN of any payload (none may become infinity), sums that overflow or tie."""
    dtype = np_dtype(dtype_name)
    x, residual = some_of_everything(dtype, seed), some_of_everything(dtype, seed + 10)
    # One in two close to the other, so that sums cancel and tie.
    close = np.arange(x.size) % 2 == 1
    residual = np.where(close, np.roll(x, 1), residual)
    got = add(x, residual, np.empty_like(x), Key(seed), p)
    assert_same_bits(got, two_passes(x, residual, Key(seed), p))


def aligned(n, dtype):
    """As the front end makes large outputs, so that stores may bypass the cache."""
    room = np.empty(n * dtype.itemsize + 64, dtype=np.uint8)
    return room[-_kernel.address(room) % 64 :][: n * dtype.itemsize].view(dtype)


STREAMED = 16 << 20  # bytes of an output whose stores bypass the cache; where it is an input, they do not


@pytest.mark.parametrize("size", ["shared out", "streamed"])
def test_threads_and_streaming_stores_change_nothing(size, dtype_name):
    dtype = np_dtype(dtype_name)
    n = 100_000 if size == "shared out" else STREAMED // dtype.itemsize + 13
    x, residual = (np.resize(part, n) for part in normals(100_000, dtype))
    before, expected = _kernel.path(), x.copy()
    add(expected, residual, expected, Key(3), 0.1, 8)
    if size == "shared out":
        assert expected.tobytes() == two_passes(x, residual, Key(3), 0.1, 8).tobytes()
    try:
        for name in [path for path in _kernel.paths() if path != _kernel.REFERENCE]:
            _kernel.select(name)
            for count, start in ((1, 0), (2, 1), (3, 0), (7, 1)):
                out = aligned(n + 1, dtype)[start:][:n]
                add(x, residual, out, Key(3), 0.1, 8, count)
                assert np.array_equal(out.view(np.uint8), expected.view(np.uint8)), (name, count, start)
    finally:
        _kernel.select(before)


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**64 - 1),
    p=st.floats(0, 1),
    base=st.integers(0, 2**63 - 5000),
    n=st.integers(0, 3000),
)
def test_any_window(seed, stream, p, base, n):
    x, residual = normals(n, np.float32, n)
    expected = two_passes(x, residual, Key(seed, stream), p, base).tobytes()
    before = _kernel.path()
    try:
        for name in _kernel.paths():
            _kernel.select(name)
            out = add(x, residual, np.empty_like(x), Key(seed, stream), p, base)
            assert out.tobytes() == expected, name
    finally:
        _kernel.select(before)
