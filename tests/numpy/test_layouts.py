"""Large arrays in every layout, wide enough for several stages, tiles and threads: the bits of the copy."""

import numpy as np
import pytest

import thinned
from thinned import Key, _kernel

KEY = Key(2**63 + 5, 9)
SHUFFLED = np.random.default_rng(3).permutation(16)
DTYPES = ("float32", "float64", "float16", "bfloat16")


def dtype_of(name):
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def structure(x):
    """x as a field of a packed structure, at an odd address."""
    made = np.zeros(x.shape, dtype=[("before", "u1"), ("x", x.dtype), ("after", "u2")])
    made["x"] = x
    return made["x"]


def not_aligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    made = memory[1:].view(x.dtype).reshape(x.shape)
    made[...] = x
    return made


LAYOUTS = {
    "every second": lambda x: x[::2],
    "reversed": lambda x: x[::-1],
    "every third, reversed": lambda x: x[::-3],
    "column": lambda x: x.reshape(-1, 4)[:, 1],
    "columns reversed": lambda x: x.reshape(-1, 4)[:, ::-1],
    "rows and columns": lambda x: x.reshape(240, -1)[::2, 5:-3],
    "columns, every second": lambda x: x.reshape(240, -1)[:, ::2],
    "both reversed": lambda x: x.reshape(240, -1)[::-1, ::-1],
    "transposed": lambda x: x.reshape(240, -1).T,
    "transposed, with gaps": lambda x: x.reshape(240, -1).T[::3, ::-2],
    "few rows": lambda x: x.reshape(-1, 4).T,
    "few columns": lambda x: x.reshape(4, -1).T,
    "channels last": lambda x: x.reshape(8, 30, -1, 48).transpose(0, 3, 1, 2),
    "three channels last": lambda x: x.reshape(4, 40, -1, 3).transpose(0, 3, 1, 2),
    "sixteen dimensions": lambda x: x[: 2**16].reshape((2,) * 16).T,
    "sixteen dimensions, shuffled": lambda x: x[: 2**16].reshape((2,) * 16).transpose(SHUFFLED),
    "one number": lambda x: np.broadcast_to(x[:1], 50_000),
    "one row": lambda x: np.broadcast_to(x[:300], (200, 300)),
    "one column": lambda x: np.broadcast_to(x[:300, None], (300, 200)),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x[:9000], 7),
    "structure": structure,
    "structure, transposed": lambda x: structure(x.reshape(240, -1)).T,
    "not aligned": not_aligned,
    "not aligned, reversed": lambda x: not_aligned(x)[::-1],
}


def numbers(name):
    return np.random.default_rng(0).standard_normal(8 * 30 * 6 * 48).astype(dtype_of(name))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bits_of_a_copy(layout):
    """On every path and in every dtype, to a new array, to one in C order, and in place."""
    path, threads = _kernel.path(), _kernel._threads
    try:
        for name in DTYPES:
            x = LAYOUTS[layout](numbers(name))
            words = {"p": 0.3, "key": KEY, "training": True}
            copy = np.array(x, order="C")
            _kernel.select(_kernel.REFERENCE)
            expected = thinned.dropout(copy, **words).tobytes()
            for each in _kernel.paths()[:-1]:
                _kernel.select(each)
                for count in (1, 3):
                    thinned.set_num_threads(count)
                    assert thinned.dropout(x, **words).tobytes() == expected, (name, each, count)
                assert thinned.dropout(x, **words, out=np.empty_like(copy)).tobytes() == expected
            if x.flags.writeable:
                assert thinned.dropout(x, **words, out=x).tobytes() == expected
    finally:
        _kernel.select(path)
        _kernel._threads = threads


def test_the_parts_of_complex_numbers(path):
    z = np.random.default_rng(1).standard_normal(80_000).astype(np.float32).view(np.complex64)
    before = z.copy()
    for part, other in (("real", "imag"), ("imag", "real")):
        expected = thinned.dropout(getattr(before, part).copy(), 0.5, key=KEY, training=True)
        x = getattr(z, part)
        assert np.array_equal(thinned.dropout(x, 0.5, key=KEY, training=True), expected)
        thinned.dropout(x, 0.5, key=KEY, training=True, out=x)
        assert np.array_equal(getattr(z, part), expected)
        assert np.array_equal(getattr(z, other), getattr(before, other))
        z = before.copy()


@pytest.mark.covering("threads", "layout", strength=1)
@pytest.mark.parametrize(
    ("shape", "noise"),
    [
        ((70, 300, 64), (70, 1, 64)),
        ((70, 300, 64), (1, 1, 64)),
        ((9, 300, 1500), (9, 1, 1500)),
        ((300, 200, 3), (300, 200, 1)),
        ((30, 40, 17, 17), (30, 40, 1, 1)),
        ((40, 50, 60), (1, 50, 1)),
        ((200, 300), (1, 1)),
    ],
)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_shared_masks(path, threads, shape, noise, layout):
    """Noise along the first, a middle and the last dimension, in both orders of memory."""
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    mask = thinned.keep_mask(noise, 0.4, key=KEY)
    got = thinned.dropout(np.asarray(x, order=layout), 0.4, key=KEY, training=True, noise_shape=noise)
    assert np.array_equal(got, np.where(mask, x * np.float32(thinned.scale(0.4)), np.float32(0)))


def test_what_is_broadcast_gives_an_array_in_c_order():
    for x in (np.broadcast_to(np.ones(5, np.float32), (4, 5)), np.broadcast_to(np.float32(1), (3, 4, 5))):
        assert thinned.dropout(x, 0.5, key=KEY, training=True).flags.c_contiguous


def test_a_field_is_written_and_its_neighbours_are_not():
    """The given example: a field of four bytes in a structure of six."""
    made = np.zeros(50_000, dtype=[("a", "f4"), ("b", "u2")])
    made["a"], made["b"] = 1, np.arange(50_000)
    expected = thinned.dropout(np.ones(50_000, np.float32), 0.5, key=KEY, training=True)
    thinned.dropout(made["a"], 0.5, key=KEY, training=True, out=made["a"])
    assert np.array_equal(made["a"], expected)
    assert np.array_equal(made["b"], np.arange(50_000).astype("u2"))


def test_a_number_at_an_odd_address():
    x = not_aligned(np.full((), 3, np.float32))
    got = thinned.dropout(x, 0.5, key=Key(0), training=True)
    assert got.shape == ()
    assert got == 6
