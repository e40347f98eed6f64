"""DropoutWrapper: seeds, rates, visitors, first states, and what it refuses."""

import math
from collections import namedtuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_wrapped_cells import KEEPS, KEY, B, Echo, F, H, Memory, Sum, T, flat, masked, same, v1, whole

from thinned.tensorflow.nn import RNNCellDropoutWrapper as DropoutWrapper


def test_integer_seeds_honour_set_seed():
    wrapper, x = DropoutWrapper(Sum(), **KEEPS, seed=5), whole(B, T, F)
    found = []
    for seed in (1, 1, 2):
        tf.random.set_seed(seed)
        found.append(wrapper.unroll(x)[0].numpy().tobytes())
    assert found[0] == found[1] != found[2]


def test_a_sequence_that_fails_leaves_no_key():
    wrapper = DropoutWrapper(Sum(), 0.5, variational_recurrent=True)
    with pytest.raises(tf.errors.InvalidArgumentError), wrapper.sequence():
        wrapper(whole(B, F + 1), whole(B, H))
    assert wrapper._keys.held is None
    nested = DropoutWrapper(wrapper, output_keep_prob=0.5, variational_recurrent=True)
    assert nested.unroll(whole(B, T, F))[0].shape == (B, T, H)


@pytest.mark.parametrize("name", KEEPS)
def test_rates_are_those_to_keep(name):
    n, keep = 20000, 0.8
    ones = np.ones((1, n), np.float32)
    output, state = DropoutWrapper(Echo(), **{name: keep}, seed=KEY)(ones, ones, time=0)
    zeros = np.count_nonzero(flat(state if name == "state_keep_prob" else output)[0] == 0)
    z = (zeros - n * 0.2) / math.sqrt(n * 0.2 * 0.8)
    assert abs(z) < 5, z
    assert np.all(flat(state)[0] != 0) == (name != "state_keep_prob")
    assert np.all(flat(output)[0] != 0) == (name == "state_keep_prob")


def test_keep_probabilities_that_are_fed():
    """One graph trains and evaluates, in a loop that TensorFlow 1 makes."""
    x = whole(B, T, F) / 8
    with tf.Graph().as_default(), v1.Session() as session:
        keep = v1.placeholder(tf.float32)
        cell = Memory()
        wrapper = DropoutWrapper(cell, keep, keep, keep, variational_recurrent=True, seed=KEY)
        y, last = v1.nn.dynamic_rnn(wrapper, tf.constant(x), dtype=tf.float32)
        plain, end = v1.nn.dynamic_rnn(cell, tf.constant(x), dtype=tf.float32)
        gradient = tf.gradients(y, cell.kernel)[0]
        session.run(v1.global_variables_initializer())
        results = session.run([y, last], {keep: 1.0})
        assert same(results, session.run([plain, end]))
        y, gradient = session.run([y, gradient], {keep: 0.5})
        zeros = y == 0
        assert zeros.any()
        assert (zeros == zeros[:1, :1]).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), tf.constant(1.0)], ids=repr)
def test_keeping_all_is_the_cell_and_draws_nothing(one):
    x, state = tf.constant(whole(B, F)), tf.constant(whole(B, H))
    seen = []

    class Spy(Sum):
        def __call__(self, inputs, state):
            seen.append(inputs)
            return super().__call__(inputs, state)

    with tf.Graph().as_default() as graph:
        DropoutWrapper(Sum(), one if not tf.is_tensor(one) else 1.0)(v1.placeholder(tf.float32, (B, F)), 0.0)
        assert not [op for op in graph.get_operations() if "Random" in op.type]
    DropoutWrapper(Spy(), one, one, one)(x, state)
    assert seen[-1] is x


def test_training_may_say_that_nothing_drops():
    x = whole(B, T, F)
    wrapper = DropoutWrapper(Sum(), **KEEPS, seed=KEY)
    plain, dropped = DropoutWrapper(Sum()).unroll(x), wrapper.unroll(x)
    assert same(wrapper.unroll(x, training=False), plain)
    assert same(wrapper.unroll(x, training=True), dropped)
    function = tf.function(lambda training: wrapper.unroll(x, training=training))
    assert same(function(tf.constant(False)), plain)
    assert same(function(tf.constant(True)), dropped)


def test_training_reaches_a_cell_that_takes_it():
    cell = keras.layers.GRUCell(H, dropout=0.5, seed=1)
    x = whole(B, T, 40)
    wrapper = DropoutWrapper(cell)
    a, b = wrapper.unroll(x, training=False)[0], wrapper.unroll(x)[0]
    assert same(a, b)
    cell.reset_dropout_mask()
    assert not same(wrapper.unroll(x, training=True)[0], a)


def test_keeping_nothing_is_zero():
    x = np.full((B, F), math.nan, np.float32)
    output, state = DropoutWrapper(Sum(), 1.0, 0.0, 0)(x, x, time=0)
    for y in (output, state):
        assert not y.numpy().view(np.uint32).any()


ONES = tf.ones((2, 50))
Pair = namedtuple("Pair", "c h")


@pytest.mark.parametrize(
    ("state", "visitor", "dropped"),
    [
        (ONES, None, [True]),
        ([ONES, ONES], None, [True, True]),
        (Pair(ONES, ONES), None, [False, True]),
        ({"b": Pair(ONES, ONES), "a": [ONES]}, None, [False, True, True]),
        ((ONES, tf.cast(ONES, tf.int32), "text"), None, [True, False, False]),
        ((ONES, ONES), lambda s: False, [False, False]),
        ((ONES, ONES), lambda s: (False, True) if isinstance(s, tuple) else True, [False, True]),
        ({"a": ONES, "b": ONES}, lambda s: {"b": True, "a": False} if isinstance(s, dict) else True, [0, 1]),
        ((ONES, (ONES, ONES)), lambda s: not isinstance(s, tuple) or len(s) == 2, [True, True, True]),
        (Pair(ONES, ONES), lambda s: True, [True, True]),
    ],
)
def test_the_visitor_says_what_of_the_state_is_dropped(state, visitor, dropped):
    wrapper = DropoutWrapper(Echo(), state_keep_prob=0.5, dropout_state_filter_visitor=visitor, seed=KEY)
    _, new = wrapper(ONES, state, time=3)

    def leaves(part):
        if isinstance(part, dict):
            part = list(part.values())
        return [leaf for one in part for leaf in leaves(one)] if isinstance(part, (tuple, list)) else [part]

    assert type(new) is type(state)
    for index, (before, after, gone) in enumerate(zip(leaves(state), leaves(new), dropped, strict=True)):
        if gone:
            assert same(after, masked(before, 0.5, KEY.fold(3).fold("state").fold(index), False))
        else:
            assert after is before


def test_an_lstm_of_old_keras_names_its_c():
    """TensorFlow carries it still: its state is (c, h) by name, Keras 3's a list [h, c]."""
    for module, state in (("tensorflow.python.keras.x", Pair(ONES, ONES)), ("keras.x", [ONES, ONES])):
        cell = type("LSTMCell", (Echo,), {"__module__": module})()
        _, new = DropoutWrapper(cell, state_keep_prob=0.5, seed=KEY)(ONES, state, time=0)
        kept = [bool(tf.reduce_all(part == 1)) for part in new]
        assert kept == [isinstance(state, Pair), not isinstance(state, Pair)]


@pytest.mark.parametrize("answer", [None, 1, (True,), (True, None), {"a": True}, (True, True, True)])
def test_a_visitor_that_says_neither_yes_nor_no(answer):
    wrapper = DropoutWrapper(Echo(), state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: answer)
    with pytest.raises(TypeError, match="dropout_state_filter_visitor must return True, False or"):
        wrapper(ONES, (ONES, ONES))


def test_inputs_and_outputs_may_be_structures():
    wrapper = DropoutWrapper(Echo(), 0.5, seed=KEY, input_size=(50, (50,)), dtype=tf.float32)
    output, _ = wrapper((ONES, ONES), ONES, time=1)
    key = KEY.fold(1).fold("input")
    assert same(output, [masked(ONES, 0.5, key.fold(i), False) for i in range(2)])


def test_first_states():
    for make in (Sum, Memory, lambda: keras.layers.LSTMCell(H)):
        wrapper = DropoutWrapper(make())
        zeros = tf.nest.flatten(wrapper.zero_state(B, tf.float32))
        assert [s.shape for s in zeros] == [(B, H)] * len(zeros)
        assert same(zeros, wrapper.get_initial_state(batch_size=B, dtype=tf.float32))
        assert wrapper.wrapped_cell is wrapper.cell
        assert wrapper.output_size == wrapper.cell.output_size
        assert wrapper.state_size == wrapper.cell.state_size


def test_what_was_announced_is_checked():
    for size in (F, (F,), [F], tf.TensorShape([F])):
        DropoutWrapper(Sum(), input_size=size, dtype="float32")(whole(B, F), whole(B, H))
    with pytest.raises(
        ValueError, match=r"inputs must be of input_size \(7,\), as given, got shape \(2, 8\)"
    ):
        DropoutWrapper(Sum(), input_size=7)(whole(B, F), whole(B, H))
    with pytest.raises(TypeError, match="inputs must be of dtype float64, as given, got float32"):
        DropoutWrapper(Sum(), dtype=tf.float64)(whole(B, F), whole(B, H))
    with pytest.raises(TypeError, match="input_size must be an integer, a shape or a structure of these"):
        DropoutWrapper(Sum(), input_size=object())


@pytest.mark.parametrize("name", KEEPS)
def test_keep_probabilities_are_checked(name):
    for bad in (-0.1, 1.5, math.nan, tf.constant(2.0)):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
            DropoutWrapper(Sum(), **{name: bad})
    for bad in (True, "0.5", None, tf.constant(1)):
        with pytest.raises(ValueError, match=f"{name} must be a real number"):
            DropoutWrapper(Sum(), **{name: bad})


def test_other_arguments_are_checked():
    with pytest.raises(
        TypeError, match="cell must have state_size, output_size, __call__, got 'cell' without"
    ):
        DropoutWrapper("cell")
    with pytest.raises(TypeError, match="variational_recurrent must be True or False, got 1"):
        DropoutWrapper(Sum(), variational_recurrent=1)
    with pytest.raises(TypeError, match="dropout_state_filter_visitor must be a function"):
        DropoutWrapper(Sum(), dropout_state_filter_visitor=True)
    with pytest.raises(TypeError, match="seed must be None, an integer, a thinned"):
        DropoutWrapper(Sum(), seed="a")
    with pytest.raises(ValueError, match="of a known number of steps, got shape"):
        DropoutWrapper(Sum()).unroll(tf.ones((B, 0, F)))
    with pytest.raises(ValueError, match="of a known number of steps, got shape"):
        DropoutWrapper(Sum()).unroll(tf.ones(3))


def test_time_may_come_first():
    wrapper, x = DropoutWrapper(Sum(), **KEEPS, seed=KEY), whole(B, T, F)
    first, state = wrapper.unroll(x.transpose(1, 0, 2), time_major=True)
    second, end = wrapper.unroll(x)
    assert same(tf.transpose(first, (1, 0, 2)), second)
    assert same(state, end)
