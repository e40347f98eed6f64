"""The functions of tf.nn: gradients, types, and what is refused."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_nn_ways import KEY, equal, in_session, numbers, v1

import thinned
from thinned import Key
from thinned.tensorflow import nn


@pytest.mark.covering(strength=1)  # test_operator.py has every way with every type
def test_gradients_are_the_masks(way, dtype_name):
    x = numbers(dtype_name)
    upstream = numbers(dtype_name)[::-1].copy()
    expected = thinned.dropout(upstream, 0.3, key=KEY, training=True)

    def gradient(t, u):
        if isinstance(t, tf.Tensor) and not tf.executing_eagerly() and way is in_session:
            return tf.gradients(nn.dropout(t, 0.3, seed=KEY), t, u)[0]
        with tf.GradientTape() as tape:
            tape.watch(t)
            y = nn.dropout(t, 0.3, seed=KEY)
        return tape.gradient(y, t, u)

    equal(way(gradient, x, upstream), expected)


def test_gradients_of_a_drawn_key_have_the_forward_mask(way):
    def both(t):
        with tf.GradientTape() as tape:
            tape.watch(t)
            y = nn.dropout(t, 0.5, seed=3)
        return tf.stack([y, tape.gradient(y, t)])

    if way is in_session:

        def both(t):
            y = nn.dropout(t, 0.5, seed=3)
            return tf.stack([y, tf.gradients(y, t)[0]])

    y, gradient = way(both, np.ones(1000, np.float32))
    assert 300 < np.count_nonzero(y) < 700
    equal(y, gradient)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_dropped_is_zero_whatever_it_was(way, poison):
    x = np.full(1000, poison, np.float32)
    for rate in (0.5, 1.0, 1):
        y = way(lambda t: nn.dropout(t, rate, seed=KEY), x)  # noqa: B023
        equal(y, thinned.dropout(x, rate, key=KEY, training=True))
    assert not y.view(np.uint32).any()


def test_a_rate_of_zero_is_x_itself():
    x = tf.constant(numbers())
    assert nn.dropout(x, 0) is x
    assert nn.stateless_dropout(x, 0.0, [1, 2]) is x


def test_what_converts_to_a_tensor(way):
    equal(nn.dropout([1.0, 2.0, 3.0, 4.0], 0.5, seed=Key(0)).numpy(), np.array([2, 0, 6, 8], np.float32))
    variable = tf.Variable(tf.ones(4))
    equal(nn.dropout(variable, 0.5, seed=Key(0)).numpy(), np.array([2, 0, 2, 2], np.float32))
    for shape in ((), (0,), (3, 0)):
        x = np.ones(shape, np.float32)
        equal(way(lambda t: nn.dropout(t, 0.5, seed=KEY), x), thinned.dropout(x, 0.5, key=KEY, training=True))


@pytest.mark.parametrize("x", [[1, 2], [True], [1j]], ids=repr)
@pytest.mark.parametrize("rate", [0, 0.5])
def test_types_that_do_not_drop(x, rate):
    with pytest.raises(
        ValueError, match=r"x must be float32, float64, float16 or bfloat16, got (int32|bool|comp)"
    ):
        nn.dropout(x, rate)
    with pytest.raises(ValueError, match="x must be float32"):
        nn.stateless_dropout(x, rate, [1, 2])


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan, math.inf])
def test_rates_out_of_range(rate):
    for bad in (rate, np.float32(rate), tf.constant(rate), tf.Variable(rate)):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
            nn.dropout(tf.ones(3), bad)
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
            nn.stateless_dropout(tf.ones(3), bad, [1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 1\]"):
        in_session(lambda t, r: nn.dropout(t, r), numbers(), np.float32(rate))


@pytest.mark.parametrize(
    "rate", [True, "0.5", None, [0.5], tf.constant([0.5]), tf.constant(1), tf.constant(True)], ids=repr
)
def test_rates_that_are_no_number(rate):
    with pytest.raises(ValueError, match="rate must be a real number"):
        nn.dropout(tf.ones(3), rate)


def test_a_rate_of_another_dtype():
    for call in (lambda r: nn.dropout(tf.ones(3), r), lambda r: nn.stateless_dropout(tf.ones(3), r, [1, 2])):
        with pytest.raises(
            ValueError, match="rate must be a number or a tensor of x's dtype, float32, got float64"
        ):
            call(tf.constant(0.5, tf.float64))


@pytest.mark.parametrize(
    "seed", [True, "a", 1.5, [1], [1, 2, 3], [1.5, 2], tf.constant(1), tf.ones(2)], ids=repr
)
def test_seeds_that_are_none(seed):
    with pytest.raises(TypeError, match="seed"):
        nn.dropout(tf.ones(3), 0.5, seed=seed)
    with pytest.raises(TypeError, match="seed"):
        nn.stateless_dropout(tf.ones(3), 0.5, seed)


def test_stateless_needs_its_seed():
    for seed in (None, 5):
        with pytest.raises(TypeError, match=r"seed must be a thinned\.Key or two integers, seed and stream"):
            nn.stateless_dropout(tf.ones(3), 0.5, seed)


@pytest.mark.parametrize(
    "algorithm", [None, "philox", "auto_select", "ThreeFry", 1, 3, tf.random.Algorithm.PHILOX]
)
def test_an_algorithm_has_no_effect(algorithm):
    equal(
        nn.stateless_dropout(tf.ones(9), 0.5, [0, 0], algorithm).numpy(),
        thinned.dropout(np.ones(9, np.float32), 0.5, key=Key(0), training=True),
    )


@pytest.mark.parametrize("algorithm", ["mersenne", 9, True, 1.5, []])
def test_an_algorithm_that_is_unknown(algorithm):
    with pytest.raises(ValueError, match='rng_alg must be None, "auto_select", "philox" or "threefry"'):
        nn.stateless_dropout(tf.ones(9), 0.5, [0, 0], algorithm)


def test_names_are_scopes():
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, (3,))
        assert nn.dropout(x, 0.5, name="mine").name.startswith("mine/")
        assert nn.dropout(x, 0.5).name.startswith("dropout/")
        assert nn.stateless_dropout(x, 0.5, [1, 2]).name.startswith("stateless_dropout/")


def test_bfloat16_has_the_rate_that_it_is_given():
    """Where TensorFlow's own draws uniform numbers of eight bits: it drops 0.0077 of them at 0.001."""
    n, rate = 1 << 20, 0.001
    zeros = np.count_nonzero(nn.dropout(tf.ones(n, tf.bfloat16), rate, seed=KEY).numpy() == 0)
    z = (zeros - n * rate) / math.sqrt(n * rate * (1 - rate))
    assert abs(z) < 5, z
    theirs = np.count_nonzero(tf.nn.dropout(tf.ones(n, tf.bfloat16), rate).numpy() == 0)
    z_theirs = (theirs - n * rate) / math.sqrt(n * rate * (1 - rate))
    assert z_theirs > 100, z_theirs


def test_static_shapes_survive():
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, (None, 5))
        for rate in (0.5, v1.placeholder(tf.float32)):
            y = nn.dropout(x, rate, noise_shape=(None, 1))
            assert y.shape.as_list() == [None, 5]
