"""Masks and outputs of every front end, equal to the reference bit for bit."""

import hashlib

import ml_dtypes
import numpy as np
import pytest
from equal_bits import assert_equal_bits
from known_answers import DIGESTS, FOLDS, NUMBERS

import thinned
from thinned import Key

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
LARGEST = {0: 1, 1: 3000, 2: 60, 3: 15, 4: 8}  # sizes along a dimension, by rank


def random_case(number):
    """Shape, p, key and noise shape; the number is all that it depends on."""
    rng = np.random.default_rng([2026, number])
    rank = int(rng.integers(0, 5))
    shape = tuple(int(size) for size in rng.integers(1, LARGEST[rank] + 1, rank))
    p = float(rng.choice([0.0, 1.0, 0.5, 1e-4, 2.0**-32, rng.uniform(), rng.uniform(), rng.uniform()]))
    key = Key(*(int(word) for word in rng.integers(0, 2**64, 2, dtype=np.uint64)))
    noise = [None if rng.integers(0, 2) else (1 if rng.integers(0, 2) else size) for size in shape]
    return shape, p, key, tuple(noise) if rng.integers(0, 2) else None


def random_values(shape, dtype, number):
    rng = np.random.default_rng([7, number])
    x = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape))
    x = np.where(rng.uniform(size=shape) < 0.02, rng.choice([np.nan, np.inf, -np.inf], shape), x)
    return np.asarray(x).astype(dtype)


# A front end hands over shape, p and key: what is done with them its random cases have.
@pytest.mark.covering(strength=1)
@pytest.mark.parametrize(("shape", "p", "key", "kept", "digest"), DIGESTS, ids=["1000", "65536", "257x3x5"])
def test_digests(face, shape, p, key, kept, digest):
    mask = face.keep_mask(shape, p, key=key)
    assert mask.dtype == np.bool_
    assert int(mask.sum()) == kept
    assert hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest() == digest


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("position", [7, 28166])
def test_a_position_is_kept_at_its_own_number_and_dropped_above(face, position):
    """Kept iff u(i) ≥ D: p = u(i) / 2^32 is where the two are equal, and a double holds it exactly."""
    for drop, kept in ((NUMBERS[position], True), (NUMBERS[position] + 1, False)):
        assert face.keep_mask((position + 1,), drop / 2**32, key=Key(5, 5))[position] == kept


# A program of fifty cases takes seconds to compile: five of them are the quick tier's.
@pytest.mark.parametrize("numbers", [range(20), range(20, 200)], ids=["twenty", "the rest of two hundred"])
@pytest.mark.parametrize("part", range(4))
def test_random_cases(face, part, numbers):
    """Of each element type a part; a framework that compiles has one program for them."""
    cases = []
    for number in numbers[part::4]:
        shape, p, key, noise_shape = random_case(number)
        x = random_values(shape, DTYPES[part], number)
        cases.append((x, p, {"key": key, "noise_shape": noise_shape}))
    for y, (x, p, options) in zip(face.dropouts(cases), cases, strict=True):
        assert_equal_bits(y, thinned.dropout(x, p, training=True, **options))
    for x, p, options in cases[::10]:
        mask = thinned.keep_mask(x.shape, p, key=options["key"])
        np.testing.assert_array_equal(face.keep_mask(x.shape, p, key=options["key"]), mask)


@pytest.mark.covering(
    "face", "dtype", "p", strength=1
)  # test_random_cases has every type and p on every front end
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_classic(face, dtype, training, p):
    x = random_values((6, 40), dtype, 1)
    options = {"key": Key(3, 5), "training": training, "mode": "classic"}
    assert_equal_bits(face.dropout(x, p, **options), thinned.dropout(x, p, **options))


@pytest.mark.needs("shards")
@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_shards(face, dtype):
    x = random_values((9, 20), dtype, 2)
    whole = thinned.dropout(x, 0.4, key=Key(8), training=True)
    for rows, columns in [(slice(0, 4), slice(0, 20)), (slice(4, 9), slice(7, 20))]:
        part = face.dropout(
            x[rows, columns], 0.4, key=Key(8), global_shape=x.shape, start=(rows.start, columns.start)
        )
        assert_equal_bits(part, whole[rows, columns])


@pytest.mark.needs("shards")
def test_far_positions(face):
    options = {"key": Key(9, 9), "global_shape": (2**31, 2**32), "start": (2**31 - 3, 2**32 - 50)}
    np.testing.assert_array_equal(
        face.keep_mask((3, 50), 0.25, **options), thinned.keep_mask((3, 50), 0.25, **options)
    )


@pytest.mark.needs("gradient")
@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("noise_shape", [None, (None, 1)], ids=str)
def test_gradients(face, dtype, noise_shape):
    """The same call on the upstream gradient, and exactly 0 where dropped, whatever comes from above."""
    x, upstream = random_values((7, 30), dtype, 3), random_values((7, 30), dtype, 4)
    for p in (0.0, 0.3, 1.0):
        options = {"key": Key(3, 5), "noise_shape": noise_shape}
        reference = thinned.dropout(upstream, p, training=True, **options)
        assert_equal_bits(face.gradient(x, upstream, p, **options), reference)


@pytest.mark.needs("fold")
@pytest.mark.covering(strength=1)  # of a string and an integer one function makes the number
@pytest.mark.parametrize(("key", "data", "stream"), FOLDS, ids=["0", "123456789012", "name"])
def test_folds(face, key, data, stream):
    assert face.fold(key, data) == Key(key.seed, stream)
