"""On the active backend: keys, masks and values against NumPy.

Run by `test_backends.py` on each of the three.
"""

import keras
import ml_dtypes
import numpy as np
import pytest
from frameworks import BACKEND, WAYS, array, compiled, gradient, same_bits, tensor

import thinned
from thinned import Key, contract
from thinned.keras import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    dropout,
    keep_mask,
)

DTYPES = ["float32", "float16", "bfloat16"] + ["float64"] * (BACKEND != "jax")
LIMIT = -1.7580993408473766


def normal(shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def dropped(x, rate, key, **kwargs):
    return thinned.dropout(x, rate, key=key, training=True, **kwargs)


X = normal((6, 10, 4))


@pytest.mark.parametrize("seed", [0, 3, np.int64(2**31 - 1), np.uint64(2**31), 2**63 + 11])
def test_call_n_has_the_mask_of_seed_name_and_n(seed):
    layer = Dropout(0.3, seed=seed, name="encoder")
    for n in range(3):
        assert same_bits(layer(X, training=True), dropped(X, 0.3, Key(seed).fold("encoder").fold(n)))
    assert type(layer.get_config()["seed"]) is int


def test_a_key_is_exact():
    layer = Dropout(0.3, seed=Key(2**63, 2**64 - 1), name="encoder")
    for n in range(3):
        assert same_bits(layer(X, training=True), dropped(X, 0.3, Key(2**63, 2**64 - 1).fold(n)))


def test_without_a_seed_keras_draws_one():
    keras.utils.set_random_seed(1)
    first, second = Dropout(0.3, name="a"), Dropout(0.3, name="a")
    seeds = [int(array(layer.seed_generator.state.value)[0]) for layer in (first, second)]
    assert seeds[0] != seeds[1]
    for layer, seed in zip((first, second), seeds, strict=True):
        assert same_bits(layer(X, training=True), dropped(X, 0.3, Key(seed).fold("a").fold(0)))


def test_a_seed_generator_is_shared():
    generator = keras.random.SeedGenerator(9)
    a, b = Dropout(0.3, seed=generator, name="a"), AlphaDropout(0, seed=generator, name="b")
    c = SpatialDropout1D(0.3, seed=generator, name="c")
    assert [len(layer.variables) for layer in (a, b, c)] == [1, 0, 1]
    assert same_bits(a(X, training=True), dropped(X, 0.3, Key(9).fold("a").fold(0)))
    assert same_bits(
        c(X, training=True), dropped(X, 0.3, Key(9).fold("c").fold(1), noise_shape=(None, 1, None))
    )


def test_the_state_is_the_generators():
    layer = Dropout(0.3, seed=3, name="a")
    assert len(layer.non_trainable_variables) == 1
    layer(X, training=True)
    layer.seed_generator.state.assign([8, 5])
    assert same_bits(layer(X, training=True), dropped(X, 0.3, Key(8).fold("a").fold(5)))
    layer(X)
    layer(X, training=False)
    assert array(layer.seed_generator.state.value).tolist() == [8, 6]


def test_two_layers_with_one_seed_differ():
    masks = [array(Dropout(0.5, seed=1)(np.ones(1000, "float32"), training=True)) for _ in range(2)]
    agree = float((masks[0] == masks[1]).mean())
    z = (agree - 0.5) * 2 * 1000**0.5
    assert abs(z) < 5


@pytest.mark.covering(strength=1)  # a seed is a key before anything is compiled
@pytest.mark.parametrize("seed", [3, Key(5, 6)], ids=["integer", "Key"])
@pytest.mark.parametrize("way", WAYS)
def test_compiled_calls_have_the_same_masks(way, seed):
    layer = Dropout(0.3, seed=seed, name="a")
    base = seed if isinstance(seed, Key) else Key(seed).fold("a")
    call = compiled(layer, way)
    for n in range(3):
        assert same_bits(call(tensor(X)), dropped(X, 0.3, base.fold(n)))
    assert same_bits(layer(X, training=True), dropped(X, 0.3, base.fold(3)))


@pytest.mark.covering
@pytest.mark.parametrize("noise_shape", [None, (None, 1, None), (6, 1, 1), (1, 1, 1), [None, 10, 1]])
@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.999])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype, rate, noise_shape):
    x = normal((6, 10, 4), dtype)
    layer = Dropout(rate, noise_shape, seed=Key(1), dtype=dtype)
    assert same_bits(layer(x, training=True), dropped(x, rate, Key(1).fold(0), noise_shape=noise_shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_have_the_same_mask_and_dropped_is_zero(dtype):
    x, upstream = normal((6, 10, 4), dtype), normal((6, 10, 4), dtype, 1)
    kept = thinned.keep_mask(x.shape, 0.4, key=Key(2))
    x[~kept], upstream[~kept] = np.nan, np.inf
    got = gradient(lambda x: dropout(x, 0.4, key=Key(2), training=True), x, upstream)
    assert same_bits(got, dropped(upstream, 0.4, Key(2)))
    assert same_bits(dropout(x, 0.4, key=Key(2), training=True), dropped(x, 0.4, Key(2)))


CHANNELS = {
    SpatialDropout1D: [((5, 7, 4), {}, (None, 1, None))],
    SpatialDropout2D: [
        ((5, 3, 3, 4), {"data_format": "channels_last"}, (None, 1, 1, None)),
        ((5, 4, 3, 3), {"data_format": "channels_first"}, (None, None, 1, 1)),
    ],
    SpatialDropout3D: [
        ((5, 2, 3, 3, 4), {"data_format": "channels_last"}, (None, 1, 1, 1, None)),
        ((5, 4, 2, 3, 3), {"data_format": "channels_first"}, (None, None, 1, 1, 1)),
    ],
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_whole_channels(kind):
    for shape, kwargs, noise_shape in CHANNELS[kind]:
        x = normal(shape)
        layer = kind(0.4, seed=3, name="a", **kwargs)
        expected = dropped(x, 0.4, Key(3).fold("a").fold(0), noise_shape=noise_shape)
        assert same_bits(layer(x, training=True), expected)
        with pytest.raises(ValueError, match="ndim"):
            layer(np.ones((4, 4), "float32"))


@pytest.mark.parametrize("noise_shape", [None, (None, 1, None)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_alpha_dropout(dtype, noise_shape):
    x = normal((6, 10, 4), dtype)
    wide = np.float64 if dtype == "float64" else np.float32
    p = 1 - contract.keep_probability(contract.threshold(0.3))
    a = 1 / np.sqrt((LIMIT * LIMIT * p + 1) * (1 - p))
    kept = (
        thinned.dropout(
            np.ones(x.shape, wide), 0.3, key=Key(1).fold(0), training=True, noise_shape=noise_shape
        )
        > 0
    )
    summed = np.where(kept, x.astype(wide) + wide(-LIMIT * p), wide(LIMIT - LIMIT * p))
    expected = (summed * wide(a)).astype(x.dtype)
    layer = AlphaDropout(0.3, noise_shape, seed=Key(1), dtype=dtype)
    assert same_bits(layer(x, training=True), expected)
    upstream = normal(x.shape, dtype, 1)
    got = gradient(
        lambda x: AlphaDropout(0.3, noise_shape, seed=Key(1), dtype=dtype)(x, training=True), x, upstream
    )
    expected = np.where(kept, upstream.astype(wide) * wide(a), wide(0)).astype(x.dtype)
    assert (array(got) == array(tensor(expected))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_dropout(dtype):
    x = normal((6, 10, 4), dtype)
    wide = np.float64 if dtype == "float64" else np.float32
    z = contract.normal(Key(1).fold(0), np.arange(x.size).reshape(x.shape))
    factor = z.astype(wide) * wide(np.sqrt(0.3 / 0.7)) + wide(1)
    layer = GaussianDropout(0.3, seed=Key(1), dtype=dtype)
    got = array(layer(x, training=True))
    # CONTRACT.md, section 6: deviates may differ by a rounding. They did not here.
    np.testing.assert_allclose(got, array(tensor((x.astype(wide) * factor).astype(x.dtype))), rtol=4e-7)
    upstream = normal(x.shape, dtype, 1)
    back = gradient(lambda x: GaussianDropout(0.3, seed=Key(1), dtype=dtype)(x, training=True), x, upstream)
    expected = (upstream.astype(wide) * factor).astype(x.dtype)
    np.testing.assert_allclose(array(back), array(tensor(expected)), rtol=4e-7)


@pytest.mark.parametrize("kind", [AlphaDropout, GaussianDropout])
@pytest.mark.parametrize("way", WAYS)
def test_compiled_noise_has_the_same_bits(way, kind):
    """XLA rounds a product and the sum after it as one, where it finds them."""
    x = normal((64, 40, 8))
    expected = array(kind(0.3, seed=Key(1))(x, training=True))
    assert same_bits(compiled(kind(0.3, seed=Key(1)), way)(tensor(x)), expected)


def test_the_functions():
    assert same_bits(keep_mask((3, 50), 0.4, key=Key(1, 2)), thinned.keep_mask((3, 50), 0.4, key=Key(1, 2)))
    for training in (True, False):
        for mode in ("inverted", "classic"):
            got = dropout(X, 0.3, key=Key(1), training=training, mode=mode, noise_shape=(6, 1, None))
            expected = thinned.dropout(
                X, 0.3, key=Key(1), training=training, mode=mode, noise_shape=(6, 1, None)
            )
            assert same_bits(got, expected)
