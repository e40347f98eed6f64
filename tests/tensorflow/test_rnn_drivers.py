"""DropoutWrapper under what runs cells: Keras's RNN, TensorFlow 1's loops, a loop by hand."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from thinned import Key
from thinned.tensorflow.nn import RNNCellDropoutWrapper as DropoutWrapper

v1 = tf.compat.v1
B, T, N = 3, 4, 40
X = np.ones((B, T, N), np.float32)


class Pass:
    """A cell that outputs its input."""

    state_size = output_size = N

    def __call__(self, inputs, state):
        return inputs, state


class KerasPass(keras.layers.Layer):
    """The same as a layer of Keras."""

    state_size = output_size = N

    def call(self, inputs, states):
        return inputs, states


def variational(cell, **kwargs):
    return DropoutWrapper(cell, input_keep_prob=0.5, variational_recurrent=True, **kwargs)


def by_hand(wrapper):
    state = wrapper.zero_state(B, tf.float32)
    outputs = []
    for t in range(T):
        output, state = wrapper(X[:, t], state)
        outputs.append(output)
    return tf.stack(outputs, 1)


def static_rnn(wrapper):
    outputs, _ = v1.nn.static_rnn(wrapper, tf.unstack(tf.constant(X), axis=1), dtype=tf.float32)
    return tf.stack(outputs, 1)


def keras_rnn(wrapper):
    return keras.layers.RNN(wrapper, return_sequences=True)(X, training=True)


DRIVERS = {
    "by hand": (Pass, by_hand),
    "dynamic_rnn": (Pass, lambda wrapper: v1.nn.dynamic_rnn(wrapper, tf.constant(X), dtype=tf.float32)[0]),
    "static_rnn": (Pass, static_rnn),
    "keras.layers.RNN": (KerasPass, keras_rnn),
    "unroll": (Pass, lambda wrapper: wrapper.unroll(X)[0]),
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "function"])
@pytest.mark.parametrize("name", DRIVERS)
def test_a_variational_mask_is_one_for_a_sequence_and_another_for_the_next(name, traced, recwarn):
    cell, drive = DRIVERS[name]
    wrapper = variational(cell())
    run = tf.function(lambda: drive(wrapper), autograph=False) if traced else lambda: drive(wrapper)
    masks = [run().numpy() != 0 for _ in range(2)]
    for mask in masks:
        assert (mask == mask[:1, :1]).all()
        assert 0 < mask[0, 0].sum() < N
    assert (masks[0] != masks[1]).any()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize("loop", [False, True], ids=["by hand", "in a while loop"])
def test_a_sequence_that_nobody_begins_has_one_mask_for_good_and_warns(loop):
    wrapper, state = variational(Pass()), tf.zeros((B, N))

    def drive():
        if loop:
            return v1.nn.dynamic_rnn(wrapper, tf.constant(X), initial_state=state)[0]
        return tf.stack([wrapper(X[:, t], state)[0] for t in range(T)], 1)

    with pytest.warns(RuntimeWarning, match="no sequence was seen to begin") as warned:
        first = (tf.function(drive, autograph=False) if loop else drive)().numpy()
    assert len(warned) == 1
    assert (first == first[:1, :1]).all()
    assert (drive().numpy() == first).all()


@pytest.mark.parametrize("seed", [None, pytest.param(3, marks=pytest.mark.full), Key(1, 2)], ids=str)
def test_keras_runs_trains_and_evaluates_it(seed):
    cell = keras.layers.GRUCell(5)
    wrapper = DropoutWrapper(cell, 0.5, 0.5, 0.5, variational_recurrent=isinstance(seed, Key), seed=seed)
    assert isinstance(wrapper, DropoutWrapper)
    assert isinstance(wrapper, keras.layers.Layer)
    layer = keras.layers.RNN(wrapper)
    model = keras.Sequential([keras.Input((T, N)), layer, keras.layers.Dense(1)])
    assert len(layer.weights) == len(cell.weights) == 3
    assert layer.trainable_weights == wrapper.trainable_weights
    plain = keras.layers.RNN(cell)
    assert (layer(X, training=False).numpy() == plain(X).numpy()).all()
    assert (layer(X, training=True).numpy() != plain(X).numpy()).any()
    before = cell.get_weights()[0].copy()
    model.compile("sgd", "mse")
    model.fit(X, np.ones((B, 1)), epochs=2, verbose=0)
    assert (cell.get_weights()[0] != before).any()


def leave_all(state):
    return False


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"input_keep_prob": 0.5, "output_keep_prob": 0.25, "state_keep_prob": 0.75, "seed": 3},
        {"variational_recurrent": True, "seed": Key(2**63, 5), "input_size": N, "dtype": "float32"},
        {"state_keep_prob": 0.5, "dropout_state_filter_visitor": leave_all},
    ],
    ids=lambda kwargs: ", ".join(kwargs) or "nothing",
)
def test_a_configuration_makes_another(kwargs):
    wrapper = DropoutWrapper(keras.layers.GRUCell(5, name="inner"), **kwargs, name="outer")
    config = wrapper.get_config()
    with keras.saving.CustomObjectScope({"leave_all": leave_all}):
        again = DropoutWrapper.from_config(config)
    assert type(again) is type(wrapper)
    assert again.get_config() == config
    json.dumps(config)
    assert config["input_keep_prob"] == kwargs.get("input_keep_prob", 1.0)
    assert config["cell"]["config"]["units"] == 5
    bare = DropoutWrapper(Pass(), **kwargs)
    assert DropoutWrapper.from_config(bare.get_config()).get_config() == bare.get_config()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    wrapper = DropoutWrapper(
        keras.layers.LSTMCell(5), state_keep_prob=0.5, seed=Key(3), variational_recurrent=True
    )
    model = keras.Sequential([keras.Input((T, N)), keras.layers.RNN(wrapper)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0].cell, DropoutWrapper)
    for training in (False, True):
        assert (loaded(X, training=training).numpy() == model(X, training=training).numpy()).all()


def test_keras_2_runs_it_too():
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    cell = tf_keras.layers.SimpleRNNCell(5)
    wrapper = DropoutWrapper(cell, 0.5)
    layer = tf_keras.layers.RNN(wrapper)
    assert layer(tf.constant(X)).shape == (B, 5)
    assert isinstance(wrapper, tf_keras.layers.Layer)
    assert len(layer.weights) == 3
    assert DropoutWrapper.from_config(wrapper.get_config()).get_config() == wrapper.get_config()
