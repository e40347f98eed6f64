"""DropoutWrapper: its masks are those of a plain loop, whatever runs it."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ways import WAYS
from tensorflow_wrapped_cells import (
    KEEPS,
    KEY,
    B,
    Echo,
    F,
    H,
    LSTMStateTuple,
    Memory,
    Sum,
    T,
    flat,
    masked,
    same,
    v1,
    whole,
)

from thinned.tensorflow import compat
from thinned.tensorflow.nn import RNNCellDropoutWrapper as DropoutWrapper

both_ways = pytest.mark.parametrize("variational", [False, True])


def reference(cell, x, state, key, variational, drop_state):
    """The wrapper's definition as a loop."""
    outputs = []
    for t in range(x.shape[1]):
        now = key if variational else key.fold(t)
        y, state = cell(masked(x[:, t], KEEPS["input_keep_prob"], now.fold("input"), variational), state)
        of_state = now.fold("state")
        state = drop_state(
            state, lambda s, i, k=of_state: masked(s, KEEPS["state_keep_prob"], k.fold(i), variational)
        )
        outputs.append(masked(y, KEEPS["output_keep_prob"], now.fold("output"), variational))
    return np.stack(outputs, 1), state


def test_the_names_are_one_class_with_tensorflows_arguments():
    assert compat.v1.nn.rnn_cell.DropoutWrapper is DropoutWrapper
    theirs = inspect.signature(tf.nn.RNNCellDropoutWrapper.__mro__[1].__init__).parameters.values()
    theirs = [(p.name, p.default) for p in theirs if p.kind is not p.VAR_KEYWORD]
    ours = inspect.signature(DropoutWrapper.__init__).parameters.values()
    assert [(p.name, p.default) for p in ours if p.kind is not p.VAR_KEYWORD] == theirs


@pytest.mark.covering(strength=1)
@both_ways
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_sequence_equals_the_plain_loop(way, variational):
    x, state = whole(B, T, F), whole(B, H)
    want = reference(Sum(), x, state, KEY, variational, lambda s, drop: drop(s, 0))

    def run(t):
        wrapper = DropoutWrapper(Sum(), **KEEPS, variational_recurrent=variational, seed=KEY)
        outputs, last = wrapper.unroll(tf.ensure_shape(t, (B, T, F)), tf.constant(state))
        return tf.concat([outputs, last[:, None]], 1)

    assert same(way(run, x).numpy(), np.concatenate([want[0], want[1][:, None]], 1))


KERAS = {
    "LSTM": (lambda: keras.layers.LSTMCell(H), lambda s, drop: [drop(s[0], 0), s[1]]),
    "GRU": (lambda: keras.layers.GRUCell(H), lambda s, drop: [drop(s[0], 0)]),
    "RNN": (lambda: keras.layers.SimpleRNNCell(H), lambda s, drop: [drop(s[0], 0)]),
    "stack": (
        lambda: keras.layers.StackedRNNCells([keras.layers.LSTMCell(H), keras.layers.GRUCell(H)]),
        lambda s, drop: [[drop(s[0][0], 0), s[0][1]], [drop(s[1][0], 2)]],
    ),
    "v1": (Memory, lambda s, drop: LSTMStateTuple(s.c, drop(s.h, 1))),
}


@pytest.mark.covering(strength=1)  # a plain loop above has both ways
@both_ways
@pytest.mark.parametrize("kind", KERAS)
def test_cells_of_keras_and_of_tensorflow_1(kind, variational):
    make, drop_state = KERAS[kind]
    cell, x = make(), whole(B, T, F) / 8
    wrapper = DropoutWrapper(cell, **KEEPS, variational_recurrent=variational, seed=KEY)
    first = wrapper.zero_state(B, tf.float32)
    cell(x[:, 0], first)  # Keras builds a cell in its first call
    got = wrapper.unroll(x)
    assert same(got, reference(cell, x, first, KEY, variational, drop_state))
    assert (got[0].numpy() == 0).any()
    if kind != "LSTM":
        return
    compiled = tf.function(wrapper.unroll, jit_compile=True)(tf.constant(x))
    for a, b in zip(flat(compiled), flat(got), strict=True):
        assert np.array_equal(a == 0, b == 0)
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)


def test_a_wrapper_has_its_cells_variables():
    for cell in (Memory(), keras.layers.GRUCell(H)):
        wrapper = DropoutWrapper(cell, 0.5)
        wrapper.unroll(whole(B, T, F))
        assert len(wrapper.trainable_variables) == len(cell.trainable_variables) > 0
        assert len(wrapper.variables) == len(cell.variables)
    assert DropoutWrapper(Sum()).trainable_variables == ()


def test_time_is_a_number_or_a_loops_tensor():
    x, state = whole(B, T, F), whole(B, H)
    wrapper = DropoutWrapper(Sum(), **KEEPS, seed=KEY)
    want = wrapper.unroll(x, tf.constant(state))

    @tf.function
    def loop(x, state):
        outputs = tf.TensorArray(tf.float32, T)
        for t in tf.range(T):
            y, state = wrapper(x[:, t], state, time=t)
            outputs = outputs.write(t, y)
        return tf.transpose(outputs.stack(), (1, 0, 2)), state

    assert same(loop(tf.constant(x), tf.constant(state)), want)
    now = tf.constant(state)
    for t in range(T):
        y, now = wrapper(x[:, t], now, time=t)
        assert same(y, want[0][:, t])


def test_a_key_without_the_number_of_the_step():
    wrapper = DropoutWrapper(Sum(), 0.5, seed=KEY)
    with pytest.raises(
        TypeError, match=r"a key as seed needs the number of the step.* time=t\) or wrapper\.unroll"
    ):
        wrapper(whole(B, F), whole(B, H))
    wrapper(whole(B, F), whole(B, H), training=False)
    DropoutWrapper(Sum(), seed=KEY)(whole(B, F), whole(B, H))


def test_a_key_as_a_tensor():
    words = tf.constant([KEY.seed, KEY.stream], tf.int64)
    x = whole(B, T, F)
    want = DropoutWrapper(Sum(), **KEEPS, seed=KEY).unroll(x)
    assert same(DropoutWrapper(Sum(), **KEEPS, seed=words).unroll(x), want)
    unkeyed = DropoutWrapper(Sum(), **KEEPS)
    assert same(unkeyed.unroll(x, key=KEY), want)
    assert same(tf.function(lambda k: unkeyed.unroll(x, key=k))(words), want)


@pytest.mark.covering
@both_ways
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("place", ["session", "function", "unroll", "sequence"])
def test_drawn_masks_are_the_same_at_all_steps_iff_variational(variational, seed, place):
    """And of each run there are others."""
    n, keeps = Echo.output_size, (1.0, 0.5, 1.0)
    x = np.ones((B, T, n), np.float32)

    def make():
        return DropoutWrapper(Echo(), *keeps, variational_recurrent=variational, seed=seed)

    def looped(wrapper):
        with wrapper.sequence():
            return tf.stack([wrapper(x[:, t], tf.zeros((B, n)))[0] for t in range(T)], 1)

    if place == "session":
        with tf.Graph().as_default(), v1.Session() as session:
            y = v1.nn.dynamic_rnn(make(), tf.constant(x), dtype=tf.float32, initial_state=tf.zeros((B, n)))[0]
            runs = [session.run(y) for _ in range(2)]
    elif place == "function":
        function = tf.function(lambda: v1.nn.dynamic_rnn(make(), x, initial_state=tf.zeros((B, n)))[0])
        runs = [function().numpy() for _ in range(2)]
    else:
        wrapper = make()
        once = looped if place == "sequence" else (lambda w: w.unroll(x, tf.zeros((B, n)))[0])
        runs = [once(wrapper).numpy() for _ in range(2)]
    for y in runs:
        masks = {y[b, t].tobytes() for b in range(B) for t in range(T)}
        assert len(masks) == (1 if variational else B * T)
        assert 0.2 < np.mean(y == 0) < 0.8
    assert not np.array_equal(*runs)
