"""DropoutWrapper beside plain loops with NumPy's masks, whose keys are those of torch's wrapper."""

import inspect
import math
from collections import namedtuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ways import WAYS

import thinned
from thinned import Key
from thinned.tensorflow import compat
from thinned.tensorflow.nn import RNNCellDropoutWrapper as DropoutWrapper

v1 = tf.compat.v1
B, T, F, H = 2, 2, 8, 8
KEY = Key(42, 7)
KEEPS = {"input_keep_prob": 0.75, "output_keep_prob": 0.5, "state_keep_prob": 0.625}
LSTMStateTuple = namedtuple("LSTMStateTuple", "c h")
both_ways = pytest.mark.parametrize("variational", [False, True])


class Sum:
    """A cell of whole numbers, so that arithmetic is exact in any order."""

    state_size = output_size = H

    def __call__(self, inputs, state):
        return 2 * inputs + state, inputs + 2 * state


class Memory(tf.Module):
    """An LSTM of TensorFlow 1's form: state (c, h), variables of its own."""

    state_size, output_size = LSTMStateTuple(H, H), H

    def __init__(self):
        super().__init__()
        start = np.random.default_rng(1).standard_normal((F + H, 4 * H)).astype(np.float32)
        self.kernel = tf.Variable(start)

    def zero_state(self, batch_size, dtype):
        return LSTMStateTuple(*(tf.zeros((batch_size, H), dtype) for _ in range(2)))

    def __call__(self, inputs, state, scope=None):
        i, j, f, o = tf.split(tf.concat([inputs, state.h], 1) @ self.kernel, 4, 1)
        c = state.c * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j)
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, LSTMStateTuple(c, h)


class Echo:
    """Output the input; state what it was."""

    state_size = output_size = 50

    def __call__(self, inputs, state):
        return inputs, state


def whole(*shape):
    return np.random.default_rng(0).integers(1, 9, shape).astype(np.float32)


def masked(x, keep_prob, key, variational):
    x = np.asarray(x)
    noise = (1, *(None,) * (x.ndim - 1)) if variational else None
    return thinned.dropout(x, 1 - keep_prob, key=key, training=True, noise_shape=noise)


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


def flat(state):
    return [np.asarray(leaf) for leaf in tf.nest.flatten(state)]


def same(a, b):
    return [x.tobytes() for x in flat(a)] == [x.tobytes() for x in flat(b)]


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
