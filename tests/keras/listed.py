"""Each layer on the active backend, made and counted: what is listed here is in every test of `seams.py`."""

import functools

import keras
import numpy as np
import pytest
from frameworks import BACKEND, array, gradient, tensor

from thinned import Key
from thinned import keras as tk

X = np.random.default_rng(0).uniform(0.5, 1.5, (4, 5, 6)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(0.5, 1.5, (4, 5, 5, 6)).astype("float32")
VOLUMES = np.random.default_rng(2).uniform(0.5, 1.5, (4, 3, 3, 3, 6)).astype("float32")
TOKENS = np.arange(1, 81).reshape(4, 20).astype("int32")
RATES = {"dropout": 0.4, "recurrent_dropout": 0.4}


def in_rnn(kind):
    return lambda **kwargs: keras.layers.RNN(kind(3, **RATES, **kwargs))


def connected(**kwargs):
    return tk.DropConnect(keras.layers.Dense(3), 0.4, **kwargs)


def concrete(**kwargs):
    return tk.ConcreteDropout(keras.layers.Dense(3), 0.4, samples=9, **kwargs)


def alone(kind):
    """The layer for one sequence: its own query, and key."""
    listed = issubclass(kind, keras.layers.Attention)

    class Alone(kind):
        def build(self, shape):
            super().build(*([[shape] * 2] if listed else [shape] * 2))

        def call(self, x, training=False):
            return super().call(*([[x, x]] if listed else [x, x]), training=training)

        def compute_mask(self, x, mask=None):
            return mask

        def compute_output_spec(self, x, training=False):
            return keras.KerasTensor(x.shape, self.compute_dtype)

    Alone.__name__ = kind.__name__ + "Alone"
    return keras.saving.register_keras_serializable("tests")(Alone)


ATTENTION = {name: alone(getattr(tk, name)) for name in ("Attention", "AdditiveAttention")}
HEADS = {name: alone(getattr(tk, name)) for name in ("MultiHeadAttention", "GroupQueryAttention")}

LAYERS = {
    **{name: (functools.partial(kind, dropout=0.4), X) for name, kind in ATTENTION.items()},
    "MultiHeadAttention": (functools.partial(HEADS["MultiHeadAttention"], 2, 3, dropout=0.4), X),
    "GroupQueryAttention": (functools.partial(HEADS["GroupQueryAttention"], 3, 4, 2, dropout=0.4), X),
    "Dropout": (functools.partial(tk.Dropout, 0.4), X),
    "AlphaDropout": (functools.partial(tk.AlphaDropout, 0.4), X),
    "GaussianDropout": (functools.partial(tk.GaussianDropout, 0.4), X),
    "SpatialDropout1D": (functools.partial(tk.SpatialDropout1D, 0.4), X),
    "SpatialDropout2D": (functools.partial(tk.SpatialDropout2D, 0.4), IMAGES),
    "SpatialDropout3D": (functools.partial(tk.SpatialDropout3D, 0.4), VOLUMES),
    "DropConnect": (connected, X),
    "ConcreteDropout": (concrete, X),
    "WordDropout": (functools.partial(tk.WordDropout, 0.4, 0), TOKENS),
    "SpecAugment": (functools.partial(tk.SpecAugment, 3, 3), X),
    "Cutout": (functools.partial(tk.Cutout, 3, data_format="channels_last"), IMAGES),
    "DropBlock2D": (functools.partial(tk.DropBlock2D, 0.4, 2, data_format="channels_last"), IMAGES),
    "SimpleRNN": (functools.partial(tk.SimpleRNN, 3, **RATES), X),
    "GRU": (functools.partial(tk.GRU, 3, **RATES), X),
    "LSTM": (functools.partial(tk.LSTM, 3, **RATES), X),
    "SimpleRNNCell": (in_rnn(tk.SimpleRNNCell), X),
    "GRUCell": (in_rnn(tk.GRUCell), X),
    "LSTMCell": (in_rnn(tk.LSTMCell), X),
}
# These have nothing of their own: all that is ours is in a mixin or base, which another layer has too.
ALIKE = (
    "GroupQueryAttention",
    "AdditiveAttention",
    "WordDropout",
    "SpecAugment",
    "Cutout",
    "DropBlock2D",
    "ConcreteDropout",
)
each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in ALIKE else name for name in LAYERS]
)


def made(listed):
    """A built layer whose next call has number 0, and inputs for it."""
    make, x = LAYERS[listed]
    layer = make(seed=Key(3))
    layer(x)
    count_from(layer, 0)
    return layer, x


def count_from(layer, number):
    state_of(layer).assign([0, number])


def state_of(layer):
    """The variable that counts calls."""
    (state,) = [v for v in layer.non_trainable_variables if "seed_generator" in v.path]
    return state


def number(layer):
    return int(array(state_of(layer).value)[1])


def close(got, expected):
    """Compilers and threads may add in another order; a mask that differs shows in the first digit."""
    np.testing.assert_allclose(array(got), array(expected), rtol=1e-4, atol=1e-5)


def forward_and_back(layer, wrap, x):
    """Of the square of the outputs, whose gradient needs them again; counted from number 5."""

    def block(x):
        return keras.ops.square(layer(x, training=True))

    y_shape = tuple(layer(x).shape)
    count_from(layer, 5)
    run = wrap(block)
    if BACKEND == "jax":
        import jax

        y, pull = jax.vjp(run, tensor(x))
        return array(y), array(pull(jax.numpy.ones_like(y))[0]), number(layer)
    seen = []

    def keep(x):
        seen.append(run(x))
        return seen[0]

    back = gradient(keep, x, np.ones(y_shape, "float32"))
    return array(keras.ops.stop_gradient(seen[0])), array(back), number(layer)
