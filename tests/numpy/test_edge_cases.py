"""LANDSCAPE's rulings on edge cases, row by row, for the NumPy front end."""

import math

import numpy as np
import pytest

import thinned
from thinned import Key, _overlap

X = np.ones((4, 6), np.float32)


def drop(x=X, p=0.5, **kwargs):
    return thinned.dropout(x, p, **{"key": Key(0), "training": True, **kwargs})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan, math.inf, 10**400])
def test_p_out_of_range(p, training):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        drop(p=p, training=training)
    with pytest.raises(ValueError, match=r"keep_prob must be in \[0, 1\], got"):
        drop(p=None, keep_prob=p, training=training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [True, "0.5", [0.5]])
def test_p_of_the_wrong_type(p, training):
    with pytest.raises(TypeError, match="p must be a real number, got"):
        drop(p=p, training=training)


@pytest.mark.parametrize(
    "names", [{}, {"p": 0.5, "rate": 0.5}, {"p": 0.5, "keep_prob": 0.5}, {"rate": 0.1, "keep_prob": 0.9}]
)
def test_exactly_one_probability(names):
    with pytest.raises(TypeError, match="pass exactly one of p, rate"):
        thinned.dropout(X, key=Key(0), training=True, **names)


def test_p_zero_is_x_itself():
    assert drop(p=0) is X
    assert drop(p=0.0, mode="classic", training=False) is X


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf, -np.inf, -3.0])
def test_p_one_is_zero_whatever_x_is(value, dtype_name):
    import ml_dtypes

    x = np.full(200, value, ml_dtypes.bfloat16 if dtype_name == "bfloat16" else dtype_name)
    for mode, training in (("inverted", True), ("classic", True), ("classic", False)):
        assert not drop(x, p=1, mode=mode, training=training).view(np.uint8).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, -0.0])
def test_dropped_is_positive_zero_whatever_x_is(path, value, dtype_name):
    import ml_dtypes

    x = np.full(777, value, ml_dtypes.bfloat16 if dtype_name == "bfloat16" else dtype_name)
    y = drop(x, p=0.5)
    kept = thinned.keep_mask(777, 0.5, key=Key(0))
    assert not y[~kept].view(np.uint8).any()
    assert np.isnan(y[kept].astype(np.float32)).all() if np.isnan(value) else (y[kept] == value * 2).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "dtype", [np.int32, np.uint8, np.bool_, np.complex64, np.longdouble, ">f4", "U1", object]
)
def test_other_dtypes(dtype, training):
    with pytest.raises(TypeError, match=f"x must be float32.*got {np.dtype(dtype)}"):
        drop(np.zeros(3, dtype), training=training)


@pytest.mark.parametrize("training", [True, False])
def test_the_other_byte_order(training):
    """Bytes that are read as if they were in this machine's order make other numbers; bfloat16's did."""
    import ml_dtypes

    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        x = np.ones(4, dtype)
        swapped = x.astype(x.dtype.newbyteorder())
        with pytest.raises(TypeError, match=r"in the other byte order: pass x\.astype"):
            drop(swapped, training=training)
        native = swapped.astype(swapped.dtype.newbyteorder("="))  # what the message says
        assert np.array_equal(drop(native), drop(x))


@pytest.mark.parametrize("training", [True, False])
def test_masked_arrays(training):
    with pytest.raises(TypeError, match=r"masked array, whose mask would be lost: pass x\.filled"):
        drop(np.ma.masked_less(X, 2), training=training)


def test_empty_and_zero_dimensional():
    assert drop(np.ones((0, 3), np.float32)).shape == (0, 3)
    assert thinned.keep_mask((3, 0), 0.5, key=Key(0)).shape == (3, 0)
    for value in (drop(np.float32(3)), drop(np.ones((), np.float32))):
        assert value.shape == ()
        assert value in (0.0, 2.0, 6.0)
    assert thinned.keep_mask((), 0.5, key=Key(0)).shape == ()


def test_more_than_two_to_the_thirty_one_positions():
    shape = (2**20, 2**30)
    first = thinned.keep_mask((1, 100), 0.5, key=Key(0), global_shape=shape, start=(2**19, 50))
    flat = thinned.keep_mask(100, 0.5, key=Key(0), global_shape=2**50, start=2**49 + 50)
    assert np.array_equal(first[0], flat)
    with pytest.raises(ValueError, match="at most 2\\^63 positions"):
        thinned.keep_mask(5, 0.5, key=Key(0), global_shape=2**63 + 1)


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**63, 2), 2**64, (0, 2**40), (2**21, 2**21, 2**22)])
def test_masks_of_too_many_positions(shape):
    if 0 in np.atleast_1d(shape):
        assert thinned.keep_mask(shape, 0.5, key=Key(0)).shape == shape
        return
    with pytest.raises(ValueError, match=r"at most 2\^63 positions"):
        thinned.keep_mask(shape, 0.5, key=Key(0))
    part = (1,) * np.size(shape)
    with pytest.raises(ValueError, match=r"at most 2\^63 positions"):
        thinned.keep_mask(part, 0.5, key=Key(0), global_shape=shape)


def test_the_largest_whole():
    """2^63 positions in two dimensions; the last of them is that of the flat mask."""
    last = thinned.keep_mask((1, 2), 0.5, key=Key(0), global_shape=(2**62, 2), start=(2**62 - 1, 0))
    flat = thinned.keep_mask(2, 0.5, key=Key(0), global_shape=2**63, start=2**63 - 2)
    assert np.array_equal(last[0], flat)
    one_row = thinned.keep_mask((1, 3), 0.5, key=Key(0), global_shape=(1, 2**63), start=(0, 2**63 - 3))
    assert np.array_equal(one_row[0, 1:], flat)


def test_more_than_two_to_the_thirty_one_elements():
    """A real mask of 2^31 + 9 bytes."""
    n = 2**31 + 9
    mask = thinned.keep_mask(n, 0.5, key=Key(1))
    for start in (0, 2**31 - 99, n - 100):
        part = thinned.keep_mask(100, 0.5, key=Key(1), global_shape=n, start=start)
        assert np.array_equal(mask[start : start + 100], part)


@pytest.mark.parametrize("noise", [
    (4,), (4, 6, 1), (2, 6), (4, 3), (0, 6), (4, True), "ab", 3,
    np.ones((2, 2), int), np.array([[4, 6]]), [[4], [6]], (1.0, 6), (4, np.float32(1)), (np.array([4]), 6),
    np.array([4.0, 6.0]), np.array(1), (np.True_, 6),
])  # fmt: skip
def test_noise_shape_that_does_not_fit(noise):
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit x of shape \(4, 6\)"):
        drop(noise_shape=noise)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start": (0, 0)}, "needs global_shape"),
        ({"global_shape": (4,)}, "one entry for each dimension"),
        ({"global_shape": (4, 5)}, "reaches outside global_shape"),
        ({"global_shape": (8, 6), "start": (5, 0)}, "reaches outside global_shape"),
        ({"global_shape": (8, 6), "start": (-1, 0)}, "start must not be negative"),
    ],
)
def test_shards_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        drop(**kwargs)


def test_shape_of_the_wrong_type():
    with pytest.raises(TypeError, match=r"shape must be an integer or a sequence of integers, got 2.5"):
        thinned.keep_mask((2.5,), 0.5, key=Key(0))
    for shape in ([[1, 2], [3, 4]], np.ones((2, 2), int), np.ones(2), "ab", np.array(1.5)):
        with pytest.raises(TypeError, match=r"shape must be an integer or a sequence of integers, got"):
            thinned.keep_mask(shape, 0.5, key=Key(0))
    for shape in (np.array(3), np.int64(3), np.array([3]), iter([3])):
        assert thinned.keep_mask(shape, 0.5, key=Key(0)).shape == (3,)
    with pytest.raises(ValueError, match="shape must not be negative"):
        thinned.keep_mask((-1,), 0.5, key=Key(0))


def test_training_not_given():
    with pytest.raises(TypeError, match=r"pass training=self\.training"):
        thinned.dropout(X, 0.5, key=Key(0))


@pytest.mark.parametrize("key", [None, 3, (1, 2)])
def test_key_that_is_none(key):
    with pytest.raises(TypeError, match=r"make one with thinned\.Key"):
        drop(key=key)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be"):
        drop(mode="lasagne")


def test_out_that_does_not_fit():
    with pytest.raises(ValueError, match="out must be an array like x, float32 of shape"):
        drop(out=np.empty((4, 5), np.float32))
    with pytest.raises(ValueError, match="out must be an array like x"):
        drop(out=np.empty((4, 6), np.float64))
    with pytest.raises(ValueError, match="out must be an array like x"):
        drop(out=[1])
    frozen = X.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        drop(out=frozen)


def test_out_that_overlaps():
    memory = np.ones(30, np.float32)
    with pytest.raises(ValueError, match="out overlaps x"):
        drop(memory[:24], out=memory[1:25])
    shared = np.lib.stride_tricks.as_strided(memory, (4, 6), (0, 4), writeable=True)
    with pytest.raises(ValueError, match="share memory"):
        drop(shared, out=shared)
    assert drop(memory[:10], out=memory[10:20]).shape == (10,)


@pytest.mark.parametrize(
    "view",
    [
        lambda m: np.lib.stride_tricks.sliding_window_view(m, 3, writeable=True),
        lambda m: np.lib.stride_tricks.sliding_window_view(m.reshape(5, 6), (2, 2), writeable=True),
        lambda m: np.lib.stride_tricks.as_strided(m, (5, 4), (12, 16)),  # 4 · 3 = 3 · 4
        lambda m: np.lib.stride_tricks.as_strided(m[::-1], (4, 3), (-4, -4)),
        lambda m: np.lib.stride_tricks.as_strided(m, (4,), (2,)),  # half an element on
    ],
)
def test_out_whose_elements_overlap_without_a_stride_of_zero(view):
    memory = np.ones(30, np.float32)
    with pytest.raises(ValueError, match="share memory"):
        drop(view(memory), out=view(memory))
    assert (memory == 1).all()


def test_out_that_interleaves_with_itself_and_with_x():
    """Strides that look as if elements met, and none do; x and out in turns."""
    memory = np.ones(60, np.float32)
    tangled = np.lib.stride_tricks.as_strided(memory, (3, 2), (8, 12))  # 0, 3, 2, 5, 4, 7
    expected = drop(tangled.copy())
    assert np.array_equal(drop(tangled, out=tangled), expected)
    memory[:] = 1
    assert np.array_equal(drop(memory[::2], out=memory[1::2]), drop(np.ones(30, np.float32)))
    assert (memory[::2] == 1).all()
    row = memory.reshape(1, 60)  # the stride along one element is no difference
    same = np.lib.stride_tricks.as_strided(memory, (1, 60), (12, 4))
    assert drop(row, out=same) is same


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**31, ValueError),
        (10**30, ValueError),
        (1.5, TypeError),
        (True, TypeError),
    ],
)
def test_number_of_threads(n, error):
    with pytest.raises(error, match="n must be"):
        thinned.set_num_threads(n)


def test_memory_that_nobody_can_tell_apart_in_time_counts_as_shared(monkeypatch):
    """What is asked, of NumPy or of strides, is bounded: no answer is taken for the bad one."""

    def no_answer(*_, **__):
        raise np.exceptions.TooHardError

    assert not _overlap.overlaps_itself((0, 3), (1, 1))
    monkeypatch.setattr(_overlap, "_PATIENCE", 0)
    memory = np.ones(60, np.float32)
    tangled = np.lib.stride_tricks.as_strided(memory, (3, 2), (8, 12))
    with pytest.raises(ValueError, match="share memory"):
        drop(tangled, out=tangled)
    monkeypatch.setattr(np, "shares_memory", no_answer)
    with pytest.raises(ValueError, match="out overlaps x"):
        drop(memory[::2], out=memory[1::2])
