"""One floating-point environment: subnormal numbers count, whatever the caller's thread makes of them.

Rounding and traps are set by the kernel's own test, tests/native/selftest.cpp.
"""

import sys
from contextlib import contextmanager

import numpy as np
import pytest
from fuzz.layouts import DTYPES

import thinned
from thinned import Key, _kernel, threshold

N = 100_000  # enough for two threads

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the reference has it on Linux alone"
)


@contextmanager
def flushing():
    """Subnormal numbers are taken for zero, as input and as output."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush")
    try:
        yield
        assert np.multiply(np.full(8, 1e-40, np.float32), np.float32(2)).max() == 0, (
            "the caller's mode is lost"
        )
    finally:
        torch.set_flush_denormal(False)


def tiny(dtype):
    """Subnormal, and so small that products are; with ordinary numbers between."""
    x = np.random.default_rng(0).standard_normal(N).astype(dtype)
    smallest = {2: 2.0**-24, 4: 2.0**-149, 8: 2.0**-1074}[dtype.itemsize]
    smallest = 2.0**-133 if dtype.name == "bfloat16" else smallest
    x[::3] = np.float64(smallest) * np.random.default_rng(1).integers(1, 100, x[::3].size)
    return x


def add(x):
    out, words = np.empty_like(x), (threshold(0.3), thinned.scale(0.3), _kernel.get_num_threads())
    code = ["float32", "float64", "float16", "bfloat16"].index(x.dtype.name)
    where = (_kernel.address(array) for array in (x, x, out))
    _kernel.add(code, *where, x.size, 0, 1, 2, *words)
    return out


def many(x):
    keys, out = np.arange(40, dtype=np.uint64), np.empty_like(x)
    code = ["float32", "float64", "float16", "bfloat16"].index(x.dtype.name)
    rows = (1, 20, 0, N // 20, (N // 20,), (1,), 0, _kernel.address(keys))
    words = (threshold(0.3), thinned.scale(0.3), 0, _kernel.get_num_threads())
    _kernel.many(code, _kernel.address(x), _kernel.address(out), *rows, *words)
    return out


def normal(x):
    out = np.empty(N, np.float32)
    _kernel.normal(_kernel.address(out), (N,), (1,), 0, 1, 2, _kernel.get_num_threads())
    return out


def dots(x):
    from thinned._numpy import thinned_dots

    x = x.astype(np.float32)
    return thinned_dots(x, x, 0.3, key=Key(1), draws=2)


PASSES = {
    "dropout": lambda x: thinned.dropout(x, 0.3, key=Key(1), training=True),
    "strided": lambda x: thinned.dropout(x[::-1], 0.3, key=Key(1), training=True),
    "transposed": lambda x: thinned.dropout(x.reshape(100, -1).T, 0.3, key=Key(1), training=True),
    "evaluation": lambda x: thinned.dropout(x, 0.3, key=Key(1), training=False, mode="classic"),
    "add": add,
    "many": many,
    "normal": normal,
    "dots": dots,
}


@pytest.mark.parametrize("name", PASSES)
def test_no_pass_depends_on_the_callers_mode(path, name, dtype_name):
    x = tiny(DTYPES[dtype_name])
    threads = _kernel._threads
    try:
        expected = PASSES[name](x).tobytes()
        for count in (1, 2):
            thinned.set_num_threads(count)
            with flushing():
                got = PASSES[name](x)
            assert got.tobytes() == expected, count
    finally:
        _kernel._threads = threads
