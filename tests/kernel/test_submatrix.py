"""Parts of matrices: gathered, scattered and added on every code path, as NumPy's indexing does."""

import numpy as np
import pytest

from thinned import Key, _kernel, contract, threshold

pytestmark = pytest.mark.skipif(_kernel.take is None, reason="the native module is not built")

DTYPES = (np.float32, np.float64, np.float16)  # as the kernel numbers them
SCALE = 1.0 / 0.7
# Around a vector's width, and around a word of bits.
WIDTHS = [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130]


def numbers(random, size, p):
    return (random.random(size) >= p).nonzero()[0].astype(np.int64)


def cases():
    random = np.random.default_rng(7)
    for number, width in enumerate(WIDTHS):
        for p in (0.0, 0.5, 0.97):
            inner = (1, 1, 3)[number % 3]
            rows, columns = numbers(random, 9, 0.4), numbers(random, width, p)
            yield (9, width, inner), None if number % 4 == 3 else rows, None if number % 5 == 4 else columns


CASES = list(cases())


def values(random, shape, dtype):
    made = random.standard_normal(shape).astype(dtype)
    made.reshape(-1)[::7] = -0.0
    return made


def guarded(shape, dtype):
    """Memory of this shape within more of it, all poison."""
    room = np.full(int(np.prod(shape)) + 32, 77, dtype)
    return room, room[16:-16].reshape(shape)


def where(whole, rows, columns):
    """Of a whole's first two dimensions, what rows and columns name."""
    height, width = whole.shape[:2]
    return np.ix_(
        np.arange(height) if rows is None else rows, np.arange(width) if columns is None else columns
    )


def times(x, scale):
    wide = np.float64 if x.dtype == np.float64 else np.float32
    return x if scale == 1.0 else (x.astype(wide) * wide(scale)).astype(x.dtype)


def named(kept, size):
    return (0, size) if kept is None else (_kernel.address(kept), len(kept))


def call(run, whole, part, rows, columns, scale, *more):
    across, wide = named(columns, whole.shape[1])
    run(
        *(DTYPES.index(whole.dtype.type), _kernel.address(whole), _kernel.address(part), whole.shape),
        *(*named(rows, whole.shape[0]), across, wide, wide * whole.shape[2], scale, *more),
    )


def sized(whole, rows, columns):
    return whole[where(whole, rows, columns)].shape


def untouched(room):
    return (room[:16] == 77).all() and (room[-16:] == 77).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_parts_are_taken_and_put(path, dtype, scale):
    random = np.random.default_rng(1)
    for shape, rows, columns in CASES:
        whole = values(random, shape, dtype)
        at = where(whole, rows, columns)
        if not whole[at].size:
            continue
        room, part = guarded(whole[at].shape, dtype)
        call(_kernel.take, whole, part, rows, columns, scale, 2)
        assert part.tobytes() == times(whole[at], scale).tobytes()
        assert untouched(room)
        expected = np.zeros(shape, dtype)
        expected[at] = times(part, scale)
        room, put = guarded(shape, dtype)
        call(_kernel.put, put, part, rows, columns, scale, False, 2)
        assert put.tobytes() == expected.tobytes()
        assert untouched(room)
        added = whole.copy()
        added[at] = (whole[at] + times(part, scale)).astype(dtype)
        call(_kernel.put, whole, part, rows, columns, scale, True, 2)
        assert whole.tobytes() == added.tobytes()


@pytest.mark.parametrize(("rows", "columns"), [([0, 9], None), (None, [1, 2, 130]), ([-1, 3], None)])
def test_numbers_beyond_a_matrix_are_refused(rows, columns):
    whole, part = np.zeros((9, 130, 1), np.float32), np.zeros((9, 130, 1), np.float32)
    kept = [one if one is None else np.array(one, np.int64) for one in (rows, columns)]
    with pytest.raises(RuntimeError, match="a thin site keeps number"):
        call(_kernel.take, whole, part, *kept, 1.0, 1)


def test_many_parts_are_taken_as_each_is(path):
    random = np.random.default_rng(2)
    whole = values(random, (300, 200, 1), np.float32)
    kept = [(numbers(random, 300, p), numbers(random, 200, p)) for p in (0.0, 0.2, 0.5, 0.5, 0.9)]
    kept[2] = None, kept[2][1]
    kept[3] = kept[3][0], None
    parts = [np.full(sized(whole, *one), 77, np.float32) for one in kept]
    along, across = ([named(one[k], whole.shape[k]) for one in kept] for k in (0, 1))
    _kernel.take_many(
        *(_kernel.FLOAT32, _kernel.address(whole), whole.shape, [_kernel.address(part) for part in parts]),
        *([one[k] for one in names] for names in (along, across) for k in (0, 1)),
        *(SCALE, 2),
    )
    for one, part in zip(kept, parts, strict=True):
        assert np.array_equal(part, times(whole[where(whole, *one)], SCALE))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_the_numbers_that_a_mask_keeps(path, p):
    rows, size, drop = 3, 203, threshold(p)
    found = _kernel.kept(5, 6, drop, rows, size)
    masks = contract.keep(Key(5, 6), np.arange(rows * size).reshape(rows, size), drop)
    for row, mask in zip(found, masks, strict=True):
        assert np.array_equal(np.frombuffer(row, np.int64), mask.nonzero()[0])
