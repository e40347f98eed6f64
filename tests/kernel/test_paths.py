"""Every code path of this machine, bit for bit against the reference."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_answers import CROSSING, DIGESTS, NUMBERS, ROWS, TIES

import thinned
from thinned import Key, _kernel, contract, threshold

BASES = [0, 2**31, 2**32, 2**35, 2**60]


def window(start, n, p, key):
    return thinned.keep_mask(n, p, key=key, global_shape=2**63, start=start)


def test_the_native_module_is_built_where_a_compiler_is():
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("cl")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine: the reference does the work")
    assert _kernel.paths() != [_kernel.REFERENCE]


def test_the_paths_are_those_that_linux_says_the_processor_has():
    try:
        flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    except (OSError, TypeError):
        pytest.skip("/proc/cpuinfo shows no flags of an x86 processor")
    if _kernel.paths() == [_kernel.REFERENCE]:
        pytest.skip("the native module is not built")
    needs = {"avx2": {"avx2", "f16c", "fma"}}
    needs["avx512"] = needs["avx2"] | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
    expected = {path for path, wanted in needs.items() if wanted <= flags}
    assert {"avx2", "avx512"} & set(_kernel.paths()) == expected


@pytest.mark.parametrize(("shape", "p", "key", "kept", "digest"), DIGESTS)
def test_known_digests(path, threads, shape, p, key, kept, digest):
    mask = thinned.keep_mask(shape, p, key=key)
    assert int(mask.sum()) == kept
    assert hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest() == digest


def test_known_rows_and_crossing(path, threads):
    rows = thinned.keep_mask((5, 5), 0.5, key=Key(0))
    assert " ".join("".join(map(str, row)) for row in rows.astype(int)) == ROWS
    assert "".join(map(str, window(2**35 - 5, 64, 0.25, Key(9, 9)).astype(int))) == CROSSING


def test_known_ties(path, threads):
    mask = thinned.keep_mask(614575, 0.1, key=Key(5, 5))
    assert mask[list(TIES)].astype(int).tolist() == list(TIES.values())


# So few elements are one thread's, however many are allowed: another test has those that are shared out.
SMALL = pytest.mark.covering("threads", "base", strength=1)


@SMALL
@pytest.mark.parametrize("base", BASES)
def test_every_alignment_and_length(path, threads, base):
    """Starts 0…15 and lengths 0…300, across the places where a counter word turns over."""
    key, p = Key(2**63 + 5, 2**40 + 3), 0.1
    first = base - 160 if base else 0
    expected = contract.keep(key, np.arange(320, dtype=np.uint64) + np.uint64(first), threshold(p))
    lengths = range(301) if path != _kernel.REFERENCE else range(0, 301, 43)
    for alignment in range(16):
        for n in lengths:
            got = window(first + alignment, n, p, key)
            assert np.array_equal(got, expected[alignment : alignment + n]), (alignment, n)


@SMALL
@pytest.mark.parametrize("base", BASES)
def test_values_at_every_alignment(path, threads, base, dtype_name):
    dtype = np_dtype(dtype_name)
    key, p, first = Key(7, 9), 0.3, base - 96 if base else 0
    x = np.random.default_rng(1).standard_normal(320).astype(dtype)
    kept = contract.keep(key, np.arange(320, dtype=np.uint64) + np.uint64(first), threshold(p))
    expected = contract.apply_mask(x, kept, thinned.scale(p))
    for alignment in range(16):
        for n in (0, 1, 7, 8, 63, 64, 65, 127, 128, 129, 200, 300):
            part = slice(alignment, alignment + n)
            got = thinned.dropout(
                x[part], p, key=key, training=True, global_shape=2**63, start=first + alignment
            )
            assert got.tobytes() == expected[part].tobytes(), (alignment, n)


@pytest.mark.covering("threads", "middle", strength=1)
@pytest.mark.parametrize("width", [1, 3, 8, 13, 40, 64, 70, 200])
@pytest.mark.parametrize("middle", [0, 2**31, 2**35, 2**60])
def test_short_runs(path, threads, width, middle):
    """Rows of a shard, shorter and longer than a group, that step over a counter word's turn."""
    whole = width + 5
    first_row = max(0, middle // whole - 40)
    positions = (first_row + np.arange(80, dtype=np.uint64))[:, None] * np.uint64(whole)
    positions = positions + np.arange(2, 2 + width, dtype=np.uint64)
    for p in (0.1, 0.5):
        expected = contract.keep(Key(3, 2**50), positions, threshold(p))
        shard = {"global_shape": (first_row + 80, whole), "start": (first_row, 2)}
        assert np.array_equal(thinned.keep_mask((80, width), p, key=Key(3, 2**50), **shard), expected)
        x = np.random.default_rng(0).standard_normal((80, width)).astype(np.float32)
        got = thinned.dropout(x, p, key=Key(3, 2**50), training=True, **shard)
        assert np.array_equal(got, contract.apply_mask(x, expected, thinned.scale(p)))


def test_short_runs_that_tie(path):
    """Positions whose first halfword ties, in rows of one element each."""
    ties = {position: kept for position, kept in TIES.items() if position < 2**18}
    whole = {"global_shape": (2**18, 2)}
    for position, kept in ties.items():
        row, column = divmod(position, 2)
        start = (max(row - 20, 0), column)
        mask = thinned.keep_mask((41, 1), 0.1, key=Key(5, 5), start=start, **whole)
        assert mask[row - start[0], 0] == kept


@pytest.mark.parametrize(("position", "own"), NUMBERS.items())
def test_a_position_is_kept_at_its_own_number_and_dropped_above(path, position, own):
    """Kept iff u(i) ≥ D: p = u(i) / 2^32 is where the two are equal, and a double holds it exactly."""
    for n in (1, 300):
        assert window(position, n, own / 2**32, Key(5, 5))[0]
        assert not window(position, n, (own + 1) / 2**32, Key(5, 5))[0]


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**64 - 1),
    p=st.one_of(st.floats(0, 1), st.integers(0, 2**16).map(lambda k: k / 2**16), st.just(2.0**-32)),
    start=st.integers(0, 2**63 - 5000),
    n=st.integers(0, 4000),
)
def test_any_window(seed, stream, p, start, n):
    expected = contract.keep(
        Key(seed, stream), np.arange(n, dtype=np.uint64) + np.uint64(start), threshold(p)
    )
    before = _kernel.path()
    try:
        for name in _kernel.paths():
            _kernel.select(name)
            assert np.array_equal(window(start, n, p, Key(seed, stream)), expected), name
    finally:
        _kernel.select(before)


STREAMED = 16 << 20  # bytes of an output whose stores bypass the cache; where it is an input, they do not


@pytest.mark.parametrize("size", ["shared out", "streamed"])
def test_threads_and_streaming_stores_change_nothing(size, dtype_name):
    """Sizes at which a pass is shared out and, for the large one, stores bypass the cache."""
    dtype = np_dtype(dtype_name)
    n = 100_000 if size == "shared out" else STREAMED // dtype.itemsize + 13
    x = np.resize(np.random.default_rng(2).standard_normal(100_000).astype(dtype), n)
    before, expected = _kernel.path(), x.copy()
    thinned.dropout(expected, 0.1, key=Key(3), training=True, out=expected)
    if size == "shared out":
        kept = contract.keep(Key(3), np.arange(n), threshold(0.1))
        assert expected.tobytes() == contract.apply_mask(x, kept, thinned.scale(0.1)).tobytes()
    try:
        for name in [path for path in _kernel.paths() if path != _kernel.REFERENCE]:
            _kernel.select(name)
            for count in (1, 2, 3, 7):
                thinned.set_num_threads(count)
                y = thinned.dropout(x, 0.1, key=Key(3), training=True)
                assert np.array_equal(y.view(np.uint8), expected.view(np.uint8)), (name, count)
    finally:
        _kernel.select(before)
        _kernel._threads = None


def np_dtype(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def test_every_half_precision_number_through_every_path(path):
    import ml_dtypes

    bits = np.arange(2**16, dtype=np.uint16)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = bits.view(dtype)
        for p in (2.0**-32, 0.1, 0.7, 0.999):
            got = thinned.dropout(x, p, key=Key(4), training=True)
            kept = contract.keep(Key(4), np.arange(2**16), threshold(p))
            expected = contract.apply_mask(x, kept, thinned.scale(p))
            nan = np.isnan(expected.astype(np.float32))
            assert np.array_equal(got.view(np.uint16)[~nan], expected.view(np.uint16)[~nan])
            assert np.isnan(got[nan].astype(np.float32)).all()


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_thinned_isa_forces_a_path():
    for name in _kernel.paths():
        result = run_python("from thinned import _kernel; print(_kernel.path())", THINNED_ISA=name)
        assert result.stdout.strip() == name, result.stderr


def test_thinned_isa_that_the_machine_lacks():
    result = run_python("import thinned", THINNED_ISA="sparc")
    assert result.returncode != 0
    assert f"THINNED_ISA=sparc: this machine offers {', '.join(_kernel.paths())}" in result.stderr


def test_without_the_native_module_the_reference_does_the_work():
    code = """
import sys
sys.modules["thinned._native"] = None
import thinned, hashlib, numpy as np
from thinned import _kernel
assert _kernel.paths() == ["reference"]
m = thinned.keep_mask(1000, 0.1, key=thinned.Key(42, 7))
print(hashlib.sha256(m.tobytes()).hexdigest())
"""
    result = run_python(code)
    assert result.stdout.strip() == "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db", (
        result.stderr
    )
