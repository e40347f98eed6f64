"""TensorFlow 1's spellings in its own manner: graphs, placeholders that are fed, sessions."""

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ways import ABOVE

import thinned
from thinned import Key
from thinned.tensorflow import compat

v1 = tf.compat.v1
KEY = Key(42, 7)
each_way = pytest.mark.parametrize("way", ABOVE, ids=lambda way: way.__name__)
dropout, layers = compat.v1.nn.dropout, compat.v1.layers


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def equal(a, b):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def expected(x, p, **arguments):
    return thinned.dropout(x, p, key=KEY, training=True, **arguments)


@pytest.fixture
def session():
    with tf.Graph().as_default(), v1.Session() as session:
        yield session


# nn.dropout.


def test_arguments_are_tensorflows_in_its_order():
    def arguments(function):
        return [(name, p.default) for name, p in inspect.signature(function).parameters.items()]

    assert arguments(dropout) == arguments(v1.nn.dropout)
    want = [("rate", 0.5), ("noise_shape", None), ("seed", None)]
    assert arguments(layers.Dropout) == [*want, ("name", None)]
    assert arguments(layers.dropout)[1:] == [*want, ("training", False), ("name", None)]


@pytest.mark.covering(strength=1)  # test_dropout.py has every way with every type
@pytest.mark.parametrize("way", ABOVE, ids=lambda way: way.__name__)
def test_the_second_argument_is_what_is_kept(way, dtype_name):
    x = tf.cast(numbers(5, 7), dtype_name).numpy()
    equal(way(lambda t: dropout(t, 0.75, None, KEY), x).numpy(), expected(x, 0.25))
    equal(way(lambda t: dropout(t, rate=0.75, seed=KEY), x).numpy(), expected(x, 0.75))


@each_way
def test_a_kept_share_that_is_a_tensor(way):
    """Its complement is taken in double: in float32 1 − 0.9 is off by 2^-26."""
    x = numbers(500, 7)
    for keep in (tf.constant(0.9), tf.constant(0.1)):
        p = 1.0 - float(keep)
        equal(way(lambda t, k: dropout(t, k, seed=KEY), x, keep).numpy(), expected(x, p))
        equal(way(lambda t, k: dropout(t, rate=k, seed=KEY), x, keep).numpy(), expected(x, float(keep)))


def test_one_graph_serves_all_that_is_fed(session):
    x = v1.placeholder(tf.float32, (None, 7))
    for keep_prob in (
        v1.placeholder(tf.float32),
        v1.placeholder(tf.float32, ()),
        v1.placeholder_with_default(tf.constant(1.0), ()),
    ):
        y = dropout(x, keep_prob, seed=KEY, noise_shape=[tf.shape(x)[0], 1])
        operations = len(tf.compat.v1.get_default_graph().get_operations())
        for rows, keep in ((4, 0.5), (6, 0.8), (6, 1.0), (4, 0.0)):
            data = numbers(rows, 7)
            got = session.run(y, {x: data, keep_prob: keep})
            equal(got, expected(data, 1.0 - float(np.float32(keep)), noise_shape=(rows, 1)))
        assert len(tf.compat.v1.get_default_graph().get_operations()) == operations
    equal(session.run(y, {x: data}), data)


def test_one_compilation_serves_all_that_is_given():
    traces = []

    @tf.function(jit_compile=True)
    def function(x, keep_prob):
        traces.append(1)
        return dropout(x, keep_prob, seed=KEY)

    x = numbers(9)
    for keep in (0.1, 0.5, 1.0):
        equal(function(x, tf.constant(keep)).numpy(), expected(x, 1.0 - float(np.float32(keep))))
    assert len(traces) == 1


def test_both_or_neither():
    x = tf.ones(3)
    with pytest.raises(
        ValueError, match=r"exactly one of rate .* or keep_prob .*, got rate=0.5 and keep_prob=0.5"
    ):
        dropout(x, 0.5, rate=0.5)
    with pytest.raises(ValueError, match=r"exactly one of rate .* or keep_prob .*, got none of them"):
        dropout(x)


def test_arguments_are_checked_by_their_own_names(session):
    x = tf.ones(3)
    for bad in (-0.1, 1.5, math.nan, np.float32(2), tf.constant(1.5)):
        with pytest.raises(ValueError, match=r"keep_prob must be in \[0, 1\], got"):
            dropout(x, bad)
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
            dropout(x, rate=bad)
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got"):
            layers.dropout(x, bad)
    for bad in (True, "0.5", tf.constant([0.5]), v1.placeholder(tf.int32), v1.placeholder(tf.float32, (1,))):
        with pytest.raises(ValueError, match="keep_prob must be a real number"):
            dropout(x, bad)
        with pytest.raises(ValueError, match="rate must be a real number"):
            layers.Dropout(bad)
    with pytest.raises(ValueError, match="keep_prob must be a number or a tensor of x's dtype, float32"):
        dropout(x, v1.placeholder(tf.float64))
    with pytest.raises(ValueError, match="x must be float32, float64, float16 or bfloat16, got int32"):
        dropout([1, 2], 1.0)
    with pytest.raises(ValueError, match="x must be float32, float64, float16 or bfloat16, got int32"):
        layers.dropout([1, 2], training=True)
    fed = v1.placeholder(tf.float32)
    y = dropout(x, fed)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 1\]"):
        session.run(y, {fed: 1.5})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[\]"):
        session.run(y, {fed: [0.5, 0.5, 0.5]})


def test_a_script_of_tensorflow_1_trains(session):
    """Two layers on a rule of the inputs: variables, gradients by `tf.gradients`, a fed keep probability."""
    v1.set_random_seed(1)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((256, 8)).astype(np.float32)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).astype(np.float32)
    x, t = v1.placeholder(tf.float32, (None, 8)), v1.placeholder(tf.float32, (None,))
    keep_prob = v1.placeholder(tf.float32)
    w1 = v1.get_variable("w1", (8, 64), initializer=v1.random_normal_initializer(0, 0.5, seed=1))
    b1 = v1.get_variable("b1", (64,), initializer=v1.zeros_initializer())
    w2 = v1.get_variable("w2", (64, 1), initializer=v1.random_normal_initializer(0, 0.2, seed=2))
    hidden = dropout(tf.nn.relu(tf.matmul(x, w1) + b1), keep_prob, seed=3)
    logits = tf.matmul(hidden, w2)[:, 0]
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(t, logits))
    parameters = [w1, b1, w2]
    gradients = tf.gradients(loss, parameters)
    step = [v1.assign_sub(w, 0.5 * g) for w, g in zip(parameters, gradients, strict=True)]
    session.run(v1.global_variables_initializer())
    train = {x: inputs, t: labels, keep_prob: 0.8}
    test = {x: inputs, t: labels, keep_prob: 1.0}
    first = session.run(loss, test)
    assert session.run(loss, train) != session.run(loss, train)
    assert session.run(loss, test) == first
    for _ in range(200):
        session.run(step, train)
    last = session.run(loss, test)
    assert last < 0.6 * first


def test_gradients_in_a_session_are_the_mask(session):
    x, keep_prob = v1.placeholder(tf.float32), v1.placeholder(tf.float32)
    for seed in (KEY, 5, None):
        y = dropout(x, keep_prob, seed=seed)
        fed = {x: np.ones((30, 30), np.float32), keep_prob: 0.5}
        out, gradient = session.run([y, tf.gradients(y, x)[0]], fed)
        assert set(np.unique(out)) == {0, 2}
        equal(out, gradient)


# layers.


@each_way
def test_a_layer_drops_only_where_it_is_told_to(way):
    x = numbers(4, 6, 3)
    layer = layers.Dropout(0.3, (None, 1, None), KEY)
    want = expected(x, 0.3, noise_shape=(4, 1, 3))
    equal(way(lambda t: layer(t, training=True), x).numpy(), want)
    equal(way(lambda t: layer.apply(t, True), x).numpy(), want)
    equal(way(lambda t: layers.dropout(t, 0.3, [4, 1, 3], KEY, True), x).numpy(), want)
    equal(way(layer, x).numpy(), x)
    equal(way(layer.apply, x).numpy(), x)
    equal(way(lambda t: layers.dropout(t, seed=KEY), x).numpy(), x)


@each_way
def test_training_may_be_a_tensor(way):
    x = numbers(400)
    for flag in (tf.constant(True), tf.constant(1), tf.constant(False)):
        got = way(lambda t, f: layers.Dropout(0.3, seed=KEY)(t, training=f), x, flag).numpy()
        equal(got, expected(x, 0.3) if flag else x)


def test_one_graph_trains_and_evaluates(session):
    x = v1.placeholder(tf.float32)
    for training in (v1.placeholder(tf.bool), v1.placeholder_with_default(False, ())):
        y = layers.dropout(x, 0.5, seed=3, training=training)
        data = np.ones(1000, np.float32)
        equal(session.run(y, {x: data, training: False}), data)
        masks = {session.run(y, {x: data, training: True}).tobytes() for _ in range(3)}
        assert len(masks) == 3


def test_evaluation_has_no_random_operation():
    with tf.Graph().as_default() as graph:
        layers.dropout(v1.placeholder(tf.float32), 0.5)
        assert not [op for op in graph.get_operations() if "Random" in op.type]
        layers.dropout(v1.placeholder(tf.float32), 0.5, training=True)
        assert [op for op in graph.get_operations() if "Random" in op.type]


def test_a_layer_has_a_name_and_keeps_its_noise_shape():
    layer = layers.Dropout(0.5, [None, 1], name="mine")
    assert layer.name == "mine"
    assert layer.noise_shape == (None, 1)
    with tf.Graph().as_default():
        assert layer(v1.placeholder(tf.float32, (3, 3)), training=True).name.startswith("mine/")
    with pytest.raises(ValueError, match="noise_shape"):
        layer(tf.ones(2), training=True)
    assert layer([1, 2]).numpy().tolist() == [
        1,
        2,
    ]  # evaluation is TensorFlow's: the inputs, whatever they are


@pytest.mark.parametrize("training", ["yes", tf.constant(0.5)], ids=repr)
def test_a_training_that_is_no_flag(training):
    with pytest.raises(TypeError, match=r"training must be (a bool or a bool tensor|True to drop)"):
        layers.dropout(tf.ones(3), training=training)


def test_a_training_that_is_a_number():
    assert np.count_nonzero(layers.dropout(tf.ones(1000), training=1.0)) < 1000  # as anywhere in Python


def test_seeds_are_checked_when_a_layer_is_made():
    with pytest.raises(TypeError, match="seed must be None, an integer, a thinned"):
        layers.Dropout(seed="a")
