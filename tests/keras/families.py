"""On the active backend: layers that Keras lacks, against plain NumPy and PyTorch's values.

Run by `test_backends.py` on each of the three.
"""

import json

import keras
import numpy as np
import plain_families as plain
import pytest
from frameworks import BACKEND, array

import thinned
from thinned import Key
from thinned._boxes import seed_rate
from thinned.keras import ConcreteDropout, Cutout, DropBlock2D, SpecAugment, WordDropout, r_drop
from thinned.mc.keras import predict

# JAX compiles each operation; what its verbs do the quick tier has from conformance/test_families.py.
pytestmark = [pytest.mark.full] if BACKEND == "jax" else []
KEY = Key(3, 1)
X = np.linspace(-1, 2, 48, dtype="float32").reshape(4, 12)
PICTURES = np.linspace(1, 2, 6 * 8 * 9 * 2, dtype="float32").reshape(6, 8, 9, 2)
SPECTROGRAMS = np.linspace(1, 2, 5 * 20 * 8, dtype="float32").reshape(5, 20, 8)


def out(layer, x, training=True):
    return array(keras.ops.stop_gradient(layer(x, training=training)))


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_words_and_boxes(rate):
    tokens = np.arange(1, 61).reshape(3, 20).astype("int32")
    layer = WordDropout(rate, 0, (7,), seed=KEY)
    np.testing.assert_array_equal(out(layer, tokens), plain.word_dropout(tokens, rate, 0, KEY.fold(0), (7,)))
    np.testing.assert_array_equal(out(layer, tokens, False), tokens)
    boxes = Cutout((4, 3), rate, data_format="channels_last", seed=KEY)
    expected = plain.cutout(PICTURES, 4, 3, rate, KEY.fold(0))
    np.testing.assert_array_equal(out(boxes, PICTURES), expected)
    first = Cutout((4, 3), rate, data_format="channels_first", seed=KEY)
    np.testing.assert_array_equal(out(first, np.moveaxis(PICTURES, -1, 1)), np.moveaxis(expected, -1, 1))


def test_spans_of_frequency_and_of_time():
    layer = SpecAugment(3, 6, 2, 1, seed=KEY)
    key = KEY.fold(0)
    expected = plain.spans(plain.spans(SPECTROGRAMS, 3, 2, -1, key.fold(0)), 6, 1, -2, key.fold(1))
    np.testing.assert_array_equal(out(layer, SPECTROGRAMS), expected)
    np.testing.assert_array_equal(out(layer, SPECTROGRAMS, False), SPECTROGRAMS)


def plain_blocks(x, rate, block, key):
    """DropBlock of (N, H, W, C), seed by seed."""
    n, height, width, channels = x.shape
    gamma = seed_rate(rate, (height, width), (block, block))
    seeds = ~thinned.keep_mask((n, channels, height - block + 1, width - block + 1), gamma, key=key)
    dropped = np.zeros((n, channels, height, width), bool)
    for sample, channel, row, column in np.argwhere(seeds):
        dropped[sample, channel, row : row + block, column : column + block] = True
    dropped = np.moveaxis(dropped, 1, -1)
    rest = (~dropped).sum((1, 2, 3), keepdims=True)
    return np.where(dropped, 0, x * (dropped[0].size / np.maximum(rest, 1)).astype("float32"))


def test_blocks():
    layer = DropBlock2D(0.3, 3, data_format="channels_last", seed=KEY)
    np.testing.assert_array_equal(
        out(layer, PICTURES), plain_blocks(PICTURES, thinned.threshold(0.3) / 2**32, 3, KEY.fold(0))
    )
    np.testing.assert_array_equal(out(layer, PICTURES, False), PICTURES)
    assert not out(DropBlock2D(1.0, 3, data_format="channels_last"), PICTURES).any()


def test_concrete_dropout_is_the_papers_equation_and_adds_its_divergence():
    layer = ConcreteDropout(keras.layers.Dense(3), 0.3, samples=50, length_scale=0.1, seed=KEY)
    got = out(layer, X)
    kernel, bias = (array(weight) for weight in (layer.layer.kernel.value, layer.layer.bias.value))
    dropped = plain.concrete(X.astype("float64"), 0.3, KEY.fold(0))
    np.testing.assert_allclose(got, dropped @ kernel + bias, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(out(layer, X, False), X @ kernel + bias, rtol=1e-4, atol=1e-5)
    entropy = -0.3 * np.log(0.3) - 0.7 * np.log(0.7)
    expected = (0.01 / (2 * 0.7) * np.square(kernel).sum() - 12 * entropy) / 50
    np.testing.assert_allclose(array(keras.ops.stop_gradient(layer.losses[0])), expected, rtol=1e-4)


def test_a_convolution_has_one_number_for_a_channel():
    layer = ConcreteDropout(
        keras.layers.Conv2D(1, 1, data_format="channels_last", kernel_initializer="ones"),
        0.3,
        samples=50,
        seed=KEY,
    )
    ones = np.ones((2, 3, 4, 5), "float32")
    factor = plain.concrete(np.ones((2, 5)), 0.3, KEY.fold(0))
    np.testing.assert_allclose(
        out(layer, ones)[..., 0], np.broadcast_to(factor.sum(1)[:, None, None], (2, 3, 4)), rtol=1e-4
    )


@pytest.mark.full
def test_a_rate_is_learned():
    """Without a use for the inputs the divergence alone is left, which moves the rate towards one half."""
    layer = ConcreteDropout(keras.layers.Dense(1), 0.1, samples=1, length_scale=1e-4, seed=1, name="concrete")
    model = keras.Sequential([keras.Input((12,)), layer])
    model.compile(keras.optimizers.SGD(0.5), loss=lambda y, output: 0.0 * output, jit_compile=False)
    before = layer.rate_now()
    model.fit(X, np.zeros(4, "float32"), epochs=3, verbose=0)
    assert before < layer.rate_now() <= 0.5 + 1e-3


@pytest.mark.full
def test_monte_carlo_reaches_them():
    layers = [
        ConcreteDropout(keras.layers.Dense(12), 0.3, samples=9, seed=1, name="concrete"),
        keras.layers.Reshape((4, 3)),
        SpecAugment(2, 2, seed=1, name="spans"),
    ]
    model = keras.Sequential([keras.Input((12,)), *layers])
    found = predict(model, X, samples=3, key=KEY)
    again = predict(model, X[2:], samples=3, key=KEY, first=2)
    np.testing.assert_allclose(found.mean[2:], again.mean, rtol=1e-4, atol=1e-5)
    assert found.std.max() > 0


def test_the_divergence_of_two_passes():
    one, other = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    p, q = (np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in (one, other))
    expected = ((p * np.log(p / q)).sum(-1) + (q * np.log(q / p)).sum(-1)).mean() / 2
    np.testing.assert_allclose(
        array(r_drop(keras.ops.array(one), keras.ops.array(other))), expected, rtol=1e-4
    )
    with pytest.raises(ValueError, match="one and other must be of one shape"):
        r_drop(keras.ops.array(one), keras.ops.array(other[:2]))


def test_refusals_name_the_argument():
    dense = keras.layers.Dense(3)
    with pytest.raises(ValueError, match=r"rate must be inside \(0, 1\), got 1.0"):
        ConcreteDropout(dense, 1.0, samples=9)
    with pytest.raises(TypeError, match="layer must be a Dense or Conv1D to Conv3D, got LayerNormalization"):
        ConcreteDropout(keras.layers.LayerNormalization(), samples=9)
    with pytest.raises(ValueError, match="samples must be positive, got 0"):
        ConcreteDropout(dense, samples=0)
    with pytest.raises(ValueError, match="width must be from 0 to the size of dim, 8, got 9"):
        SpecAugment(9, 3)(SPECTROGRAMS, training=False)
    with pytest.raises(ValueError, match="block_size must be positive"):
        DropBlock2D(0.3, 0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_tokens_that_come_as_floats_are_not_rounded(policy):
    """Keras casts floats to float16 before a call, where 5001 is 5000."""
    tokens = np.array([[5000, 5001, 257, 70001]], "float32")
    layer = WordDropout(0.5, 0, seed=KEY, dtype=policy)
    np.testing.assert_array_equal(out(layer, tokens, False), tokens)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_a_divergence_is_summed_in_float32(policy):
    inside = keras.layers.Dense(512, dtype=policy, kernel_initializer="ones")
    layer = ConcreteDropout(inside, samples=10**6, length_scale=1.0, seed=KEY)
    layer(np.ones((2, 512), "float32"), training=True)
    (loss,) = layer.losses
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(array(keras.ops.stop_gradient(loss)), 0.1455, rtol=0.01)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer",
    [DropBlock2D(0.5, 2), Cutout(2), SpecAugment(1, 1), ConcreteDropout(keras.layers.Dense(1), samples=9)],
    ids=lambda layer: type(layer).__name__,
)
def test_integers_are_refused(layer, training):
    with pytest.raises(TypeError, match="inputs must be float32, float64, float16 or bfloat16, got uint8"):
        layer(np.ones((1, 4, 4, 2), "uint8"), training=training)


def test_arguments_are_checked_where_they_are_given():
    for make in (lambda: Cutout(2, data_format="NHWC"), lambda: DropBlock2D(0.1, 2, "NHWC")):
        with pytest.raises(ValueError, match='data_format must be "channels_last" or "channels_first", got'):
            make()
    with pytest.raises(ValueError, match="width must be from 0 to the size of dim, got -1"):
        SpecAugment(-1, 2)
    with pytest.raises(ValueError, match="size must be positive, a number or height and width, got 0"):
        Cutout(0)
    with pytest.raises(ValueError, match=r"one and other must be \(N, classes\), got shape \(\)"):
        r_drop(keras.ops.array(1.0), keras.ops.array(1.0))
    with pytest.raises(TypeError, match=r"one must be float32, .* got int32"):
        r_drop(keras.ops.array([[1, 2]], dtype="int32"), keras.ops.array([[1.0, 2.0]]))


def test_numbers_of_numpy_are_saved():
    for layer in (
        WordDropout(np.float32(0.5), np.int64(3), (np.int64(1),)),
        SpecAugment(np.int64(3), 4, value=np.float32(1)),
        Cutout((np.int64(3), 4), value=np.float32(1)),
        DropBlock2D(0.5, np.int64(2)),
        ConcreteDropout(keras.layers.Dense(1), samples=np.int64(5), temperature=np.float32(0.5)),
    ):
        config = json.loads(json.dumps(layer.get_config()))
        again = type(layer).from_config(config).get_config()
        assert json.loads(json.dumps(again)) == config
