"""The functions of tf.nn: masks, noise shapes and seeds are those that are asked for."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_nn_ways import KEY, WAYS, equal, numbers, v1

import thinned
from thinned import Key
from thinned.tensorflow import nn


@pytest.mark.parametrize("name", ["dropout", "stateless_dropout"])
def test_arguments_are_tensorflows_in_its_order(name):
    theirs = tf.nn.dropout if name == "dropout" else tf.nn.experimental.stateless_dropout
    want = {n: p.default for n, p in inspect.signature(theirs).parameters.items()}
    assert {n: p.default for n, p in inspect.signature(getattr(nn, name)).parameters.items()} == want
    assert list(inspect.signature(getattr(nn, name)).parameters) == list(want)


@pytest.mark.covering(strength=1)  # test_dropout.py has every way with every type
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_dropout_is_numpys(way, dtype_name):
    x = numbers(dtype_name)
    expected = thinned.dropout(x, 0.3, key=KEY, training=True)
    equal(way(lambda t: nn.dropout(t, 0.3, None, KEY), x), expected)
    equal(way(lambda t: nn.stateless_dropout(t, 0.3, [42, 7]), x), expected)


def test_a_rate_may_be_a_tensor(way):
    x = numbers()
    for rate in (0.0, 0.3, 1.0):
        expected = thinned.dropout(x, float(np.float32(rate)), key=KEY, training=True)
        equal(way(lambda t, r: nn.dropout(t, r, seed=KEY), x, np.float32(rate)), expected)


def test_a_rate_that_changes_is_one_graph():
    traces = []

    @tf.function(jit_compile=True)
    def function(x, rate):
        traces.append(1)
        return nn.dropout(x, rate, seed=KEY)

    x = numbers()
    for rate in (0.1, 0.5, 0.9):
        expected = thinned.dropout(x, float(np.float32(rate)), key=KEY, training=True)
        equal(function(x, tf.constant(rate)).numpy(), expected)
    assert len(traces) == 1


NOISE_SHAPES = [
    (4, 1, 3),
    [None, 1, None],
    tf.TensorShape((4, 1, 3)),
    np.array([4, 1, 3]),
]


@pytest.mark.covering(strength=1)  # test_dropout.py has every way with shared decisions
@pytest.mark.parametrize("noise_shape", NOISE_SHAPES, ids=repr)
def test_noise_shapes(way, noise_shape):
    x = numbers()
    expected = thinned.dropout(x, 0.5, key=KEY, training=True, noise_shape=(4, 1, 3))
    equal(way(lambda t: nn.dropout(t, 0.5, noise_shape, KEY), x), expected)
    equal(way(lambda t: nn.stateless_dropout(t, 0.5, [42, 7], None, noise_shape), x), expected)


def test_noise_shapes_with_tensors_in_them(way):
    x = numbers()
    expected = thinned.dropout(x, 0.5, key=KEY, training=True, noise_shape=(4, 1, 3))
    for make in (
        lambda t: [tf.shape(t)[0], 1, 3],
        lambda t: tf.stack([tf.shape(t)[0], 1, tf.shape(t)[2]]),
        lambda t: tf.constant([4, 1, 3]),
    ):
        equal(way(lambda t: nn.dropout(t, 0.5, make(t), KEY), x), expected)  # noqa: B023


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("noise_shape", [(3,), (None,), (6, 3), (1, 3), (6, 1), [], np.array([3])], ids=repr)
def test_a_shorter_noise_shape_is_that_of_the_last_dimensions(way, noise_shape):
    x = numbers()
    whole = (1,) * (3 - len(noise_shape)) + tuple(noise_shape)
    expected = thinned.dropout(x, 0.5, key=KEY, training=True, noise_shape=whole)
    equal(way(lambda t: nn.dropout(t, 0.5, noise_shape, KEY), x), expected)
    as_tensor = [-1 if entry is None else entry for entry in noise_shape]
    equal(
        way(lambda t: nn.stateless_dropout(t, 0.5, [42, 7], None, tf.constant(as_tensor, tf.int32)), x),
        expected,
    )


def test_a_noise_shape_that_is_known_only_when_it_runs():
    """Neither its length nor its content is known before; the result's shape is x's."""
    x = numbers()
    with tf.Graph().as_default(), v1.Session() as session:
        noise_shape = v1.placeholder(tf.int32)
        y = nn.dropout(tf.constant(x), 0.5, noise_shape, KEY)
        assert y.shape == x.shape
        for fed in ([4, 1, 3], [6, 3], [3], [1]):
            whole = (1,) * (3 - len(fed)) + tuple(fed)
            got = session.run(y, {noise_shape: fed})
            equal(got, thinned.dropout(x, 0.5, key=KEY, training=True, noise_shape=whole))
        for fed in ([5], [4, 1, 3, 1]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(y, {noise_shape: fed})


@pytest.mark.parametrize("noise_shape", [(4, 1), (4, 2, 3), (4, 1, 3, 1), (-1, 1, 3), (5,), 5])
def test_noise_shapes_that_do_not_fit(noise_shape):
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit x of shape \(4, 6, 3\)"):
        nn.dropout(numbers(), 0.5, noise_shape, KEY)
    # At a rate of 0 as at any other.
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit x of shape \(4, 6, 3\)"):
        nn.stateless_dropout(numbers(), 0, [1, 2], noise_shape=noise_shape)


@pytest.mark.parametrize(
    "seed",
    [
        [5, -1],
        (5, -1),
        np.array([5, -1]),
        np.array([5, 2**64 - 1], np.uint64),
        tf.constant([5, -1]),
        tf.constant([5, -1], tf.int64),
        tf.constant([5, 2**64 - 1], tf.uint64),
        Key(5, 2**64 - 1),
    ],
    ids=repr,
)
def test_two_integers_are_the_key(seed):
    x = numbers()
    expected = thinned.dropout(x, 0.3, key=Key(5, 2**64 - 1), training=True)
    equal(nn.stateless_dropout(x, 0.3, seed).numpy(), expected)
    equal(nn.dropout(x, 0.3, seed=seed).numpy(), expected)
    if tf.is_tensor(seed):
        graph = tf.function(lambda s: nn.stateless_dropout(x, 0.3, s))
        equal(graph(seed).numpy(), expected)


def test_a_key_that_is_fed(way):
    x = numbers()
    for key in (Key(1), Key(2**63 + 5, 2**40)):
        words = np.array([key.seed, key.stream], np.uint64).view(np.int64)
        expected = thinned.dropout(x, 0.5, key=key, training=True)
        equal(way(lambda t, k: nn.dropout(t, 0.5, seed=k), x, words), expected)


def test_words_of_a_seed_that_are_tensors():
    step = tf.constant(3)
    expected = thinned.dropout(numbers(), 0.5, key=Key(9, 3), training=True)
    equal(nn.stateless_dropout(numbers(), 0.5, [9, step]).numpy(), expected)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("traced", [False, True])
def test_integer_seeds_draw_anew_and_honour_set_seed(seed, traced):
    def three():
        tf.random.set_seed(11)
        draw = lambda: nn.dropout(tf.ones(1000), 0.5, seed=seed)  # noqa: E731
        draw = tf.function(draw) if traced else draw
        return [draw().numpy().tobytes() for _ in range(3)]

    assert three() == three()
    assert len(set(three())) == 3


def test_a_function_draws_at_each_call_and_in_each_place():
    @tf.function
    def two():
        return nn.dropout(tf.ones(1000), 0.5), nn.dropout(tf.ones(1000), 0.5)

    masks = {y.numpy().tobytes() for _ in range(3) for y in two()}
    assert len(masks) == 6


def test_seeds_in_a_session():
    """As TensorFlow's: equal in two graphs, different from run to run."""

    def runs(graph_seed, seed):
        with tf.Graph().as_default(), v1.Session() as session:
            v1.set_random_seed(graph_seed)
            y = nn.dropout(tf.ones(1000), 0.5, seed=seed)
            return [session.run(y).tobytes() for _ in range(3)]

    assert runs(1, 2) == runs(1, 2)
    assert len(set(runs(1, 2))) == 3
    assert len({runs(1, 2)[0], runs(1, 3)[0], runs(2, 2)[0]}) == 3


def test_a_rate_of_zero_does_not_move_later_draws():
    def after(rate):
        tf.random.set_seed(5)
        nn.dropout(tf.ones(3), rate)
        return nn.dropout(tf.ones(1000), 0.5).numpy()

    equal(after(0.0), after(0.5))
