"""LANDSCAPE's rulings on edge cases, row by row, for every front end alike."""

import math

import numpy as np
import pytest

from thinned import Key

pytestmark = pytest.mark.arguments
X = np.ones((4, 6), np.float32)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan, math.inf])
def test_p_out_of_range(face, p, training):
    with pytest.raises(ValueError, match=r"(p|rate) must be in \[0, 1\], got"):
        face.dropout(X, p, key=Key(1), training=training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [True, "0.5", None])
def test_p_of_the_wrong_type(face, p, training):
    with pytest.raises(TypeError, match=r"(p|rate) must be a real number, got|pass exactly one of p"):
        face.dropout(X, p, key=Key(1), training=training)


@pytest.mark.parametrize("p", [0, 1])
def test_p_as_an_integer(face, p):
    np.testing.assert_array_equal(
        face.dropout(X, p, key=Key(1)) == 0, ~face.keep_mask(X.shape, float(p), key=Key(1))
    )


def test_p_zero_and_evaluation_change_nothing(face):
    x = np.array([math.nan, math.inf, -0.0, 1e-30, -2.0], np.float32)
    for p, training in [(0, True), (0.0, False), (0.5, False), (1.0, False)]:
        y = face.dropout(x, p, key=Key(1), training=training)
        np.testing.assert_array_equal(y.view(np.uint32), x.view(np.uint32))


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_p_one_is_zero(face, mode):
    x = np.array([math.nan, math.inf, -math.inf, -1.0], np.float32)
    assert not face.dropout(x, 1.0, key=Key(1), mode=mode).view(np.uint32).any()


def test_what_is_dropped_is_positive_zero(face):
    x = np.full((50,), -math.inf, np.float32)
    y = face.dropout(x, 0.5, key=Key(1))
    dropped = ~face.keep_mask((50,), 0.5, key=Key(1))
    assert dropped.any()
    assert not y.view(np.uint32)[dropped].any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.complex64])
def test_what_is_no_float(face, dtype, training):
    with pytest.raises(TypeError, match=r"float32.*got .*(int|bool|complex)"):
        face.dropout(np.ones((3,), dtype), 0.5, key=Key(1), training=training)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()], ids=str)
def test_empty_and_scalar(face, shape):
    y = face.dropout(np.ones(shape, np.float32), 0.5, key=Key(0))
    np.testing.assert_array_equal(y, np.full(shape, 2, np.float32))  # position 0 of Key(0) is kept
    assert face.keep_mask(shape, 0.5, key=Key(0)).shape == shape


@pytest.mark.parametrize("noise_shape", [(4,), (4, 6, 1), (2, 6), (4, 3)], ids=str)
def test_a_noise_shape_that_does_not_fit(face, noise_shape):
    for training in (True, False):
        with pytest.raises(ValueError, match=r"noise_shape \(.*\) does not fit x of shape \(4, 6\)"):
            face.dropout(X, 0.5, key=Key(1), training=training, noise_shape=noise_shape)


def test_training_must_be_said(face):
    from thinned._arguments import REQUIRED

    with pytest.raises(TypeError, match="training is missing: pass training="):
        face.dropout(X, 0.5, key=Key(1), training=REQUIRED)


def test_a_mode_that_is_none(face):
    with pytest.raises(ValueError, match='mode must be "inverted" or "classic", got'):
        face.dropout(X, 0.5, key=Key(1), mode="downscale")


@pytest.mark.parametrize("low_precision", ["float16", "bfloat16"])
def test_the_rate_is_exact_in_low_precision(face, low_precision):
    """TensorFlow's own drops 0.0077 of bfloat16 at 0.001. Here the mask is float32's, element by element."""
    import ml_dtypes

    dtype = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[low_precision]
    for p in (0.001, 0.999):
        narrow = face.dropout(np.ones((1 << 16,), dtype), p, key=Key(2))
        wide = face.dropout(np.ones((1 << 16,), np.float32), p, key=Key(2))
        np.testing.assert_array_equal(narrow != 0, wide != 0)
        count, mean = int((wide == 0).sum()), p * (1 << 16)
        z = (count - mean) / math.sqrt(mean * (1 - p))
        assert abs(z) < 5, z
