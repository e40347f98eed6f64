"""The TensorFlow front end: equal bits with NumPy in every way a program may run, arguments, keys."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from known_answers import NUMBERS
from tensorflow_ways import WAYS, bits, eager, function, plain, session, unknown_rank, xla

import thinned
from thinned import Key
from thinned.tensorflow import _key, _native, dropout, keep_mask

KEY = Key(2**64 - 1, 2**63 + 5)
TENSOR = tf.constant([-1, -(2**63) + 5], tf.int64)
PLACES = [
    {},
    {"noise_shape": (2, None, 1)},
    {"noise_shape": (1, 6, 1)},
    {"global_shape": (2**40, 6, 5), "start": (2**39 + 1, 0, 0)},
    {"global_shape": (2**20, 2**20, 9), "start": (2**19, 2, 3)},
    {"global_shape": (9, 9, 9), "start": (1, 2, 3), "noise_shape": (None, 1, None)},
]


# A function and a session make of a place what a function does that does not know how many sizes there are.
SIZES_LATER = [
    way if way in (unknown_rank, xla) else pytest.param(way, marks=pytest.mark.full) for way in WAYS[1:]
]


def values(dtype_name, shape=(2, 6, 5)):
    dtype = ml_dtypes.bfloat16 if dtype_name == "bfloat16" else dtype_name
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def same(got, expected):
    return bits(got) == (expected.dtype.name, expected.shape, expected.tobytes())


@pytest.mark.covering
@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_eager_outputs_equal_numpys_to_the_bit(dtype_name, place, training, mode):
    x = values(dtype_name)
    for p in (0.0, 0.3, 0.5, 1.0):
        got = dropout(x, p, key=KEY, training=training, mode=mode, **place)
        assert same(got, thinned.dropout(x, p, key=KEY, training=training, mode=mode, **place))


@pytest.mark.covering(strength=1)  # eager code has every place with every type
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("way", SIZES_LATER, ids=lambda way: way.__name__)
def test_every_way_gives_the_same_bits(way, place):
    x = values("float32")
    got = way(lambda v: dropout(v, 0.3, key=KEY, training=True, **place), x)
    assert same(got, thinned.dropout(x, 0.3, key=KEY, training=True, **place))


@pytest.mark.covering(strength=1)  # eager code has every type, and places do not depend on it
@pytest.mark.parametrize("way", WAYS[1:], ids=lambda way: way.__name__)
def test_every_way_rounds_as_numpy_does(way, dtype_name):
    x = values(dtype_name, (1001,))
    got = way(lambda v: dropout(v, 0.3, key=KEY, training=True), x)
    assert same(got, thinned.dropout(x, 0.3, key=KEY, training=True))


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("jit", [False, True])
def test_one_compilation_serves_all_values(jit, mode):
    """Of p, key and training as tensors; float32's 0.3 is the number that it holds."""
    x, traces = values("float32"), []

    @tf.function(jit_compile=jit)
    def of(v, p, key, training):
        traces.append(1)
        return dropout(v, p, key=key, training=training, mode=mode)

    for p in (0.0, np.float32(0.3), 1.0):
        for training in (True, False):
            got = of(x, tf.constant(p, tf.float32), TENSOR, tf.constant(training))
            assert same(got, thinned.dropout(x, float(p), key=KEY, training=training, mode=mode))
    assert len(traces) == 1


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("way", [eager, session], ids=lambda way: way.__name__)
def test_tensors_of_everything(way, mode):
    x = values("float32")

    def of(v, p, key, training):
        return dropout(v, p, key=key, training=training, mode=mode, noise_shape=(None, 1, 5))

    for p, training in ((0.3, True), (0.3, False), (1.0, False)):
        got = way(of, tf.constant(x), tf.constant(p, tf.float64), TENSOR, tf.constant(training))
        expected = thinned.dropout(x, p, key=KEY, training=training, mode=mode, noise_shape=(None, 1, 5))
        assert same(got, expected)


@pytest.mark.covering(strength=1)  # sizes are the kernel's, which has every length
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7,), (8,), (9,), (1, 1)])
@pytest.mark.parametrize("way", [eager, function, unknown_rank, xla], ids=lambda way: way.__name__)
def test_small_and_empty_shapes(way, shape):
    x = np.ones(shape, np.float32)
    got = way(lambda v: dropout(v, 0.5, key=Key(1), training=True), x)
    assert same(got, thinned.dropout(x, 0.5, key=Key(1), training=True))


def test_noise_shapes_as_tensors():
    x = values("float32")
    expected = thinned.dropout(x, 0.5, key=KEY, training=True, noise_shape=(2, 1, 5))
    for noise in (tf.constant([2, 1, 5]), tf.constant([2, 1, -1]), tf.TensorShape([2, 1, None])):
        assert same(dropout(x, 0.5, key=KEY, training=True, noise_shape=noise), expected)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 5]), tf.TensorSpec([None], tf.int32)])
    def of(v, noise):
        dynamic = (tf.shape(v)[0], 1, None)
        return (
            dropout(v, 0.5, key=KEY, training=True, noise_shape=noise),
            dropout(v, 0.5, key=KEY, training=True, noise_shape=dynamic),
        )

    assert all(same(y, expected) for y in of(x, [2, 1, 5]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="noise_shape does not fit x"):
        of(x, [2, 3, 5])


def test_a_shard_that_starts_where_the_graph_says():
    whole = thinned.keep_mask((9, 5), 0.4, key=KEY)

    @tf.function
    def part(row):
        return dropout(tf.ones((3, 5)), 0.4, key=KEY, training=True, global_shape=(9, 5), start=(row, 0))

    for row in (0, 3, 6):
        assert np.array_equal(part(tf.constant(row)).numpy() != 0, whole[row : row + 3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="reaches outside global_shape"):
        part(tf.constant(7))


OUTSIDE = [
    ({"start": [-5, 0], "global_shape": [10, 6]}, "reaches outside global_shape"),
    ({"global_shape": [2, 6]}, "reaches outside global_shape"),
    ({"global_shape": [-4, 6]}, "reaches outside global_shape"),
    ({"global_shape": [2**40, 2**40]}, "at most 2\\^63 positions"),
    ({"noise_shape": [1]}, "noise_shape needs one entry a dimension"),
    ({"noise_shape": [4, 6, 1]}, "noise_shape needs one entry a dimension"),
    ({"global_shape": [40]}, "global_shape needs one entry a dimension"),
    ({"global_shape": [10, 6], "start": [0]}, "start needs one entry a dimension"),
]


@pytest.mark.parametrize(("place", "message"), OUTSIDE, ids=repr)
def test_a_place_that_is_none_is_an_error_in_a_running_graph(place, message):
    """Of which neither the numbers nor how many there are is known when it is traced."""
    vector = tf.TensorSpec([None], tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, None]), dict.fromkeys(place, vector)], autograph=False)
    def graph(x, place):
        return dropout(x, 0.5, key=KEY, training=True, **place)

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(tf.ones((4, 6)), {name: tf.constant(value, tf.int64) for name, value in place.items()})
    if "needs one entry" in message:  # its length is known earlier
        with pytest.raises(ValueError, match="give one entry a dimension"):
            tf.function(lambda x, place: dropout(x, 0.5, key=KEY, training=True, **place), autograph=False)(
                tf.ones((4, 6)), {name: tf.constant(value, tf.int64) for name, value in place.items()}
            )


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**62, 2), (2**63,), (2**31, 2**31, 2)])
def test_a_mask_that_no_tensor_holds_is_an_error(shape):
    """TensorFlow ends the process where a size overflows."""
    with pytest.raises(ValueError, match=r"has 2\^63 elements or more|at most 2\^63 positions"):
        keep_mask(shape, 0.5, key=KEY)


@pytest.mark.covering(strength=1)  # places are numbers before a way is taken
@pytest.mark.parametrize("way", [eager, function, xla], ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [((1000,), {}), ((50, 7), {"global_shape": (2**40, 9), "start": (2**39, 2)}), ((0, 3), {}), ((), {})],
    ids=str,
)
def test_keep_mask_equals_numpys(way, shape, kwargs):
    probabilities = (0.0, 0.2, 0.5, 1.0)
    got = way(lambda key: [keep_mask(shape, p, key=key, **kwargs) for p in probabilities], TENSOR)
    for p, mask in zip(probabilities, got, strict=True):
        assert same(mask, thinned.keep_mask(shape, p, key=KEY, **kwargs))


# XLA compiles a program for each: the conformance suite has it.
@pytest.mark.parametrize(
    "way",
    [eager, function, pytest.param(xla, marks=pytest.mark.full), plain],
    ids=lambda way: way.__name__,
)
def test_a_position_is_kept_at_its_own_number_and_dropped_above(way):
    def masks(key):
        where = [{"key": key, "global_shape": (2**36,), "start": (position,)} for position in NUMBERS]
        drops = [(own, own + 1) for own in NUMBERS.values()]
        return [[keep_mask((1,), d / 2**32, **at) for d in two] for two, at in zip(drops, where, strict=True)]

    got = way(masks, tf.constant([5, 5], tf.int64))
    assert [[bool(mask.numpy()[0]) for mask in two] for two in got] == [[True, False]] * len(NUMBERS)


@pytest.mark.covering("dense", "way", strength=1)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("way", [eager, function, xla, plain], ids=lambda way: way.__name__)
def test_ties_are_broken_by_the_second_halfword(way, dense):
    """CONTRACT.md, section 7: of these seven positions two are kept."""
    ties, n = [28166, 43346, 166986, 174685, 206461, 245668, 614574], 614575
    whole = {} if dense else {"global_shape": (2, 2**20), "start": (0, 0)}
    got = way(lambda key: keep_mask((1, n), 0.1, key=key, **whole), tf.constant([5, 5], tf.int64)).numpy()[0]
    assert got[ties].astype(int).tolist() == [0, 0, 0, 0, 1, 0, 1]
    assert np.array_equal(got, thinned.keep_mask((1, n), 0.1, key=Key(5, 5))[0])


def test_without_the_native_library_the_bits_are_the_same(monkeypatch):
    x = values("float16")
    expected = thinned.dropout(x, 0.3, key=KEY, training=True)
    monkeypatch.setattr(_native, "operators", lambda: None)
    assert same(dropout(x, 0.3, key=KEY, training=True), expected)
    assert same(function(lambda v: dropout(v, 0.3, key=KEY, training=True), x), expected)
    assert same(keep_mask((100,), 0.3, key=KEY), thinned.keep_mask((100,), 0.3, key=KEY))
    assert np.array_equal(_key.fold(TENSOR, 9), _key.check(KEY.fold(9)))


# Keys.


@pytest.mark.covering(strength=1)  # one function makes a number of whatever is folded
@pytest.mark.parametrize("way", [eager, function, xla], ids=lambda way: way.__name__)
@pytest.mark.parametrize("data", [0, 123456789012, 2**60 - 1, "encoder.0.dropout"])
def test_fold_equals_the_contracts(way, data):
    expected = _key.check(KEY.fold(data)).numpy()
    assert np.array_equal(way(lambda key: _key.fold(key, data), TENSOR), expected)
    assert _key.fold(KEY, data) == KEY.fold(data)
    if isinstance(data, int):
        number = tf.constant(data, tf.int64)
        assert np.array_equal(way(lambda key, n: _key.fold(key, n), TENSOR, number), expected)


def test_int32_keys_are_sign_extended():
    x = tf.ones(100)
    got = dropout(x, 0.5, key=tf.constant([-1, 3]), training=True)
    assert same(got, thinned.dropout(x.numpy(), 0.5, key=Key(2**64 - 1, 3), training=True))


def test_a_variable_is_a_key_and_a_probability():
    key, p = tf.Variable([1, 2], dtype=tf.int64), tf.Variable(0.25)
    x = np.ones(100, np.float32)
    for way in (eager, function):
        got = way(lambda: dropout(x, p, key=key, training=True))
        assert same(got, thinned.dropout(x, 0.25, key=Key(1, 2), training=True))


def test_an_integer_seed_draws_as_tensorflows_own_operators_do():
    def draws(seed):
        tf.random.set_seed(7)
        drawn = tf.function(lambda: _key.as_key(seed))
        return [tuple(_key.as_key(seed).numpy()) for _ in range(3)] + [
            tuple(drawn().numpy()) for _ in range(3)
        ]

    for seed in (None, 5):
        first = draws(seed)
        assert first == draws(seed)
        assert len(set(first[:3])) == len(set(first[3:])) == 3
    assert np.array_equal(_key.as_key(KEY), TENSOR)


# What is refused.


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), float("inf"), tf.constant(1.5), tf.constant(-0.1)])
@pytest.mark.parametrize("training", [True, False])
def test_p_outside_its_range(p, training):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        dropout(tf.ones(3), p, key=KEY, training=training)


@pytest.mark.parametrize("p", [True, "0.5", tf.constant([0.5]), tf.constant(1), tf.constant(True)])
def test_p_that_is_no_real_number(p):
    with pytest.raises(TypeError, match="p must be a real number, got"):
        dropout(tf.ones(3), p, key=KEY, training=True)


@pytest.mark.parametrize("p", [1.5, -0.1, float("nan")])
def test_p_outside_its_range_in_a_graph(p):
    def of(p):
        return dropout(tf.ones(300), p, key=KEY, training=True)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"p must be in \[0, 1\], got"):
        function(of, tf.constant(p))
    assert np.isnan(xla(of, tf.constant(p))).all()


@pytest.mark.parametrize("x", [tf.constant([1]), tf.constant([True]), tf.constant([1j])])
@pytest.mark.parametrize("training", [True, False])
def test_types_without_dropout(x, training):
    with pytest.raises(TypeError, match=f"got {x.dtype.name}"):
        dropout(x, 0.5, key=KEY, training=training)


def test_arguments_that_do_not_fit():
    x = tf.ones((2, 6))
    with pytest.raises(TypeError, match="training is missing"):
        dropout(x, 0.5, key=KEY)
    with pytest.raises(ValueError, match=r"noise_shape \(2, 3\) does not fit x of shape \(2, 6\)"):
        dropout(x, 0.5, key=KEY, training=True, noise_shape=(2, 3))
    with pytest.raises(ValueError, match=r"reaches outside global_shape \(2, 7\)"):
        dropout(x, 0.5, key=KEY, training=True, global_shape=(2, 7), start=(0, 2))
    with pytest.raises(ValueError, match=r"start=.* needs global_shape"):
        dropout(x, 0.5, key=KEY, training=True, start=(0, 2))
    with pytest.raises(ValueError, match='mode must be "inverted" or "classic"'):
        dropout(x, 0.5, key=KEY, training=True, mode="upscale")
    with pytest.raises(TypeError, match=r"key must be a thinned.Key, got 3"):
        dropout(x, 0.5, key=3, training=True)
    for key in (tf.constant([1.0, 2.0]), tf.constant([1, 2, 3])):
        with pytest.raises(TypeError, match="key as a tensor must be int64 or int32 of shape"):
            dropout(x, 0.5, key=key, training=True)

    @tf.function(input_signature=[tf.TensorSpec([None, 6])])
    def of(v):
        with pytest.raises(ValueError, match=r"noise_shape \(1, 3\) does not fit x"):
            dropout(v, 0.5, key=KEY, training=True, noise_shape=(1, 3))
        return v

    of(x)


def test_nothing_to_do_returns_x_itself():
    x = tf.ones(3)
    assert dropout(x, 0.0, key=KEY, training=True) is x
    assert dropout(x, 0.5, key=KEY, training=False) is x


def test_the_probability_has_three_names():
    x = tf.ones(64)
    expected = dropout(x, 0.25, key=Key(1), training=True)
    for options in ({"rate": 0.25}, {"keep_prob": 0.75}, {"keep_prob": tf.constant(0.75)}):
        assert (dropout(x, **options, key=Key(1), training=True) == expected).numpy().all()
    with pytest.raises(TypeError, match=r"pass exactly one of p, rate .* got none of them"):
        dropout(x, key=Key(1), training=True)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 75"):
        dropout(x, rate=75, key=Key(1), training=True)
