"""On the active backend: rulings on edge cases, and Keras's manners.

Run by `test_backends.py` on each of the three.
"""

import runpy

import keras
import numpy as np
import pytest
from frameworks import array, tensor

from thinned import Key
from thinned.keras import (
    GRU,
    LSTM,
    AlphaDropout,
    DropConnect,
    Dropout,
    GaussianDropout,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    _backend,
    dropout,
    keep_mask,
)


def connected(rate, **kwargs):
    return DropConnect(keras.layers.Dense(3), rate, **kwargs)


SIMPLE = [Dropout, AlphaDropout, GaussianDropout]
LAYERS = [*SIMPLE, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D, connected]
RECURRENT = [SimpleRNN, GRU, LSTM, SimpleRNNCell, GRUCell, LSTMCell]
X = np.ones((2, 3, 4), "float32")


def recurrent(kind, name):
    return lambda rate: kind(4, **{name: rate})


MAKERS = [*LAYERS, *(recurrent(k, name) for k in RECURRENT for name in ("dropout", "recurrent_dropout"))]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
@pytest.mark.parametrize("make", MAKERS)
def test_a_rate_out_of_range(make, rate):
    with pytest.raises(ValueError, match=r"(rate|dropout) must be in \[0, 1\], got "):
        make(rate)


@pytest.mark.parametrize("rate", [True, "0.5", None, 1j])
@pytest.mark.parametrize("make", MAKERS)
def test_a_rate_of_another_type(make, rate):
    with pytest.raises(TypeError, match=r"(rate|dropout) must be a real number, got "):
        make(rate)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [*SIMPLE, SpatialDropout1D, connected])
def test_a_rate_is_checked_at_call_too(make, training):
    layer = make(0.5)
    layer.rate = 1.5
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1.5"):
        layer(X, training=training)


def test_rates_of_the_functions():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 2"):
        dropout(X, 2, key=Key(0), training=False)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 2"):
        keep_mask(3, 2, key=Key(0))
    with pytest.raises(TypeError, match="training is missing"):
        dropout(X, 0.5, key=Key(0))
    with pytest.raises(TypeError, match=r"key must be a thinned\.Key, got 3"):
        dropout(X, 0.5, key=3, training=True)


@pytest.mark.parametrize("make", [*LAYERS, lambda rate, seed: GRU(4, dropout=rate, seed=seed)])
def test_seeds_that_are_none(make):
    for seed in (True, 1.0, "1"):
        with pytest.raises(TypeError, match="seed must be None, an integer, a keras"):
            make(0.5, seed=seed)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\), got "):
            make(0.5, seed=seed)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
@pytest.mark.parametrize("kind", SIMPLE)
def test_inputs_that_no_mask_fits(kind, dtype, training):
    layer = kind(0.5, autocast=False)
    layer._convert_input_args = False
    with pytest.raises(TypeError, match=f"(x|input) must be float32, .*, got .*{dtype}"):
        layer(tensor(X.astype(dtype)), training=training)


@pytest.mark.parametrize("kind", [Dropout, AlphaDropout])
def test_a_noise_shape_that_does_not_fit(kind):
    for noise_shape in ((2, 3), (2, 2, 4)):
        with pytest.raises(ValueError, match=r"noise_shape .* does not fit x of shape \(2, 3, 4\)"):
            kind(0.5, noise_shape=noise_shape)(X, training=True)


@pytest.mark.parametrize("kind", SIMPLE)
def test_nothing_to_drop_is_the_input_itself(kind):
    x = tensor(X)
    assert kind(0.0)(x, training=True) is x
    assert kind(0.5)(x) is x
    assert kind(0.5)(x, training=False) is x


@pytest.mark.parametrize("make", [Dropout, AlphaDropout, SpatialDropout1D])
def test_rate_one_is_zero_whatever_there_was(make):
    x = np.array([np.nan, np.inf, -np.inf, -1.0], "float32").reshape(1, 1, 4)
    assert array(make(1.0)(x, training=True)).tobytes() == bytes(16)


def test_gaussian_dropout_refuses_one():
    with pytest.raises(ValueError, match=r"GaussianDropout needs rate < 1, got 1\.0"):
        GaussianDropout(1)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
@pytest.mark.parametrize("kind", SIMPLE)
def test_empty_and_0d(kind, shape):
    y = kind(0.5, seed=1)(tensor(np.ones(shape, "float32")), training=True)
    assert tuple(y.shape) == shape


PAIRS = [
    (Dropout, {"rate": 0.5, "noise_shape": (None, 1, None)}, (2, 3, 4)),
    (AlphaDropout, {"rate": 0.5, "noise_shape": (None, 1, None)}, (2, 3, 4)),
    (GaussianDropout, {"rate": 0.5}, (2, 3, 4)),
    (SpatialDropout1D, {"rate": 0.5}, (2, 3, 4)),
    (SpatialDropout2D, {"rate": 0.5, "data_format": "channels_first"}, (2, 3, 4, 4)),
    (SpatialDropout3D, {"rate": 0.5, "data_format": "channels_first"}, (2, 3, 4, 4, 4)),
    (SimpleRNN, {"units": 4, "dropout": 0.5, "recurrent_dropout": 1.0}, (2, 3, 4)),
    (GRU, {"units": 4, "dropout": 0.5}, (2, 3, 4)),
    (LSTM, {"units": 4, "dropout": 0.5, "recurrent_dropout": 0.5}, (2, 3, 4)),
]


@pytest.mark.parametrize("seed", [None, 1, 2**63, Key(2**63, 5), "generator"])
@pytest.mark.parametrize(("kind", "kwargs", "shape"), PAIRS)
def test_it_is_keras_class_and_its_configuration_makes_another(kind, kwargs, shape, seed):
    given = keras.random.SeedGenerator(4) if seed == "generator" else seed
    layer = kind(**kwargs, seed=given, name="a")
    assert isinstance(layer, getattr(keras.layers, kind.__name__))
    stored = keras.saving.serialize_keras_object(layer)
    assert stored["registered_name"] == f"thinned>{kind.__name__}"
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is kind
    assert again.get_config() == layer.get_config()
    if seed == 1 or (seed is not None and len(shape) == 3 and not hasattr(layer, "cell")):
        x = np.ones(shape, "float32")
        for one in (layer, again):
            one.build(shape)
        again.set_weights(layer.get_weights())
        for _ in range(2):
            assert (array(again(x, training=True)) == array(layer(x, training=True))).all()


@pytest.mark.parametrize(("kind", "kwargs", "shape"), PAIRS[:6])
def test_symbolic_calls(kind, kwargs, shape):
    x = keras.Input(shape[1:], dtype="float32")
    layer = kind(**kwargs, dtype="mixed_bfloat16")
    for y in (layer(x), layer(x, training=True)):
        assert y.shape == x.shape
        assert y.dtype == "bfloat16"
    assert tuple(layer.compute_output_shape(shape)) == shape
    assert layer.built


@pytest.mark.parametrize("kind", [*SIMPLE, SpatialDropout1D])
def test_a_keras_mask_goes_through(kind):
    x = keras.layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 2, 0], [3, 0, 0]]))
    y = kind(0.5)(x, training=True)
    assert array(keras.ops.cast(y._keras_mask, "int32")).tolist() == [[1, 1, 0], [1, 0, 0]]


def test_training_is_found_as_keras_finds_it():
    x = np.ones((4, 50), "float32")
    layer = Dropout(0.5, seed=1)
    model = keras.Sequential([layer])
    assert (array(model(x)) == 1).all()
    assert (array(model(x, training=None)) == 1).all()
    assert (array(model(x, training=True)) != 1).all()
    assert (model.predict(x, verbose=0) == 1).all()


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ImportError, match="torch, jax or tensorflow, got numpy: set KERAS_BACKEND"):
        runpy.run_path(_backend.__file__)
