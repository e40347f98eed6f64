"""TensorFlow 2's functions beside NumPy's masks: eagerly, in functions, under XLA and in sessions."""

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf

import thinned
from thinned import Key
from thinned.tensorflow import nn

v1 = tf.compat.v1
SHAPE = (4, 6, 3)
KEY = Key(42, 7)


def in_session(function, *arguments):
    """Of a graph whose inputs are fed, their shapes unknown to it."""
    with tf.Graph().as_default(), v1.Session() as session:
        fed = [v1.placeholder(np.asarray(a).dtype) for a in arguments]
        return session.run(function(*fed), dict(zip(fed, map(np.asarray, arguments), strict=True)))


def eager(function, *arguments):
    return function(*map(tf.constant, arguments)).numpy()


def traced(function, *arguments):
    return tf.function(function, autograph=False)(*map(tf.constant, arguments)).numpy()


def by_xla(function, *arguments):
    return tf.function(function, jit_compile=True, autograph=False)(*map(tf.constant, arguments)).numpy()


WAYS = {"eager": eager, "function": traced, "xla": by_xla, "session": in_session}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def numbers(dtype_name="float32", shape=SHAPE):
    x = np.random.default_rng(0).standard_normal(shape)
    return tf.cast(x, dtype_name).numpy()


def equal(a, b):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["dropout", "stateless_dropout"])
def test_arguments_are_tensorflows_in_its_order(name):
    theirs = tf.nn.dropout if name == "dropout" else tf.nn.experimental.stateless_dropout
    want = {n: p.default for n, p in inspect.signature(theirs).parameters.items()}
    assert {n: p.default for n, p in inspect.signature(getattr(nn, name)).parameters.items()} == want
    assert list(inspect.signature(getattr(nn, name)).parameters) == list(want)


@pytest.mark.covering(strength=1)  # test_dropout.py has every way with every type
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
