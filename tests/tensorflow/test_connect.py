"""DropConnect as people write it in TensorFlow, and as a verb with one mask or one for each sample."""

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ways import WAYS, eager, xla

import thinned
from thinned import Key
from thinned.tensorflow import _compat, compat, dropout, nn

v1 = tf.compat.v1
KEY = Key(42, 7)
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
N, T, IN, OUT = 4, 2, 8, 8


def whole(*shape, seed=0):
    """Small whole numbers: sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def equal(a, b):
    a, b = (np.asarray(each) for each in (a, b))
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def dropped(w, p, **how):
    return thinned.dropout(w, p, key=KEY, training=True, **how)


def plain(x, w, p, **how):
    """Sample by sample."""
    each = dropped(np.broadcast_to(w, (len(x), *w.shape)).copy(), p, **how)
    return np.stack([one @ own for one, own in zip(x, each, strict=True)])


# As people write it.


@pytest.mark.parametrize("keep_prob", [0.5, 0.125])
def test_the_idiom_is_classic_dropconnect_to_the_bit(keep_prob, dtype_name):
    """1/keep_prob is a power of two: to multiply by it and by keep_prob is exact."""
    w = tf.cast(np.random.default_rng(0).standard_normal((50, 20)), dtype_name).numpy()
    want = thinned.dropout(w, 1 - keep_prob, key=KEY, training=True, mode="classic")

    # XLA takes seconds for each type.
    for way in (eager, xla) if dtype_name == "float32" else (eager,):
        for idiom in (
            lambda t: nn.dropout(t, 1 - keep_prob, seed=KEY) * keep_prob,
            lambda t: compat.v1.nn.dropout(t, keep_prob, seed=KEY) * keep_prob,
        ):
            equal(way(idiom, w).numpy(), want)


@pytest.mark.parametrize("keep_prob", [0.9, 0.7])
def test_the_idiom_elsewhere_is_off_by_its_two_roundings(keep_prob):
    w = tf.constant(np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32))
    idiom = (compat.v1.nn.dropout(w, keep_prob, seed=KEY) * keep_prob).numpy()
    classic = nn.drop_connect(w, 1 - keep_prob, training=True, seed=KEY, mode="classic").numpy()
    assert np.array_equal(idiom == 0, classic == 0)
    assert not np.array_equal(idiom, classic)
    np.testing.assert_array_max_ulp(idiom, classic, maxulp=2)


def test_the_idiom_trains_in_a_session():
    with tf.Graph().as_default(), v1.Session() as session:
        w, keep_prob = (
            v1.get_variable("w", (30, 20), initializer=v1.ones_initializer()),
            v1.placeholder(tf.float32),
        )
        y = compat.v1.nn.dropout(w, keep_prob, seed=3) * keep_prob
        gradient = tf.gradients(tf.reduce_sum(y), w)[0]
        session.run(v1.global_variables_initializer())
        y, gradient = session.run([y, gradient], {keep_prob: 0.5})
        assert set(np.unique(y)) == {0, 1}
        equal(y, gradient)


# As a verb.


@pytest.mark.covering
@each_way
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_weights_are_dropped_by_the_mask_of_their_shape(way, mode, dtype_name):
    w = tf.cast(np.random.default_rng(0).standard_normal((5, 7)), dtype_name).numpy()
    for training in (True, False):
        got = way(lambda t: nn.drop_connect(t, 0.3, training=training, seed=KEY, mode=mode), w)  # noqa: B023
        equal(got.numpy(), thinned.dropout(w, 0.3, key=KEY, training=training, mode=mode))


@pytest.mark.covering
@each_way
@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("steps", [(), (T,)], ids=["rows", "steps"])
def test_a_dense_layer_and_its_gradients_equal_the_plain_loop(way, per_sample, steps):
    x, w, b = whole(N, *steps, IN), whole(IN, OUT, seed=1), whole(OUT, seed=2)
    upstream = whole(N, *steps, OUT, seed=3)
    rows, up = x.reshape(N, -1, IN), upstream.reshape(N, -1, OUT)
    shape = (N, IN, OUT) if per_sample else (IN, OUT)
    masks = np.broadcast_to(dropped(np.ones(shape, np.float32), 0.5), (N, IN, OUT))
    y = (rows @ (masks * w) + b).reshape(upstream.shape)
    of_x = (up @ (masks * w).transpose(0, 2, 1)).reshape(x.shape)
    of_w = (masks * (rows.transpose(0, 2, 1) @ up)).sum(0)
    want = np.concatenate([each.reshape(-1) for each in (y, of_x, of_w)])

    def run(x, w):
        args = (x, w, tf.constant(b), 0.5)
        how = {"training": True, "seed": KEY, "per_sample": per_sample}
        if isinstance(tf.compat.v1.get_default_graph(), tf.__internal__.FuncGraph) or tf.executing_eagerly():
            x, w = tf.convert_to_tensor(x), tf.convert_to_tensor(w)
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = nn.drop_connect_dense(x, w, *args[2:], **how)
            gradients = tape.gradient(y, [x, w], tf.constant(upstream))
        else:
            y = nn.drop_connect_dense(*args, **how)
            gradients = tf.gradients(y, [x, w], tf.constant(upstream))
        return tf.concat([tf.reshape(each, [-1]) for each in (y, *gradients)], 0)

    if way.__name__ == "unknown_rank":
        with pytest.raises(ValueError, match="does not fit inputs of shape <unknown>"):
            way(run, x, tf.constant(w))
        return
    equal(way(run, x, tf.constant(w)).numpy(), want)


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_evaluation_multiplies_by_the_mean(mode, per_sample):
    x, w = whole(N, IN), whole(IN, OUT, seed=1)
    how = {"seed": KEY, "mode": mode, "per_sample": per_sample}
    want = x @ w * (1 if mode == "inverted" else 0.5)
    equal(nn.drop_connect_dense(x, w, training=False, **how), want)
    flag = tf.function(lambda training: nn.drop_connect_dense(x, w, training=training, **how))
    equal(flag(tf.constant(False)), want)
    equal(flag(tf.constant(True)), nn.drop_connect_dense(x, w, training=True, **how))
    equal(nn.drop_connect_dense(x, w, None, 0.0, training=True, **how), x @ w)


def test_classic_weights_are_unscaled():
    x, w = whole(N, IN), whole(IN, OUT, seed=1)
    equal(
        nn.drop_connect_dense(x, w, None, 0.3, training=True, seed=KEY, mode="classic"),
        plain(x[:, None], w, 0.3, mode="classic")[:, 0],
    )


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64"])
def test_low_precision_is_rounded_once(name):
    """Sums of up to 6,400 are exact in float32, and in neither half type before or after the bias."""
    x, w, b = (tf.cast(7 * a, name) for a in (whole(N, IN), whole(IN, OUT, seed=1), whole(OUT, seed=2)))
    wide = np.float64 if name == "float64" else np.float32
    want = plain(x.numpy().astype(wide)[:, None], w.numpy().astype(wide), 0.5)[:, 0] + b.numpy().astype(wide)
    equal(nn.drop_connect_dense(x, w, b, 0.5, training=True, seed=KEY), tf.cast(want, name))


def test_evaluation_makes_no_weights_for_each_sample():
    with tf.Graph().as_default() as graph:
        x, w = v1.placeholder(tf.float32, (N, IN)), v1.placeholder(tf.float32, (IN, OUT))
        nn.drop_connect_dense(x, w, training=False)
        nn.drop_connect_dense(x, w, rate=0.0, training=True)
        assert "BroadcastTo" not in {op.type for op in graph.get_operations()}
        nn.drop_connect_dense(x, w, training=True)
        assert "BroadcastTo" in {op.type for op in graph.get_operations()}


def test_a_rate_may_be_fed():
    x, w = whole(N, IN), whole(IN, OUT, seed=1)
    function = tf.function(lambda rate: nn.drop_connect_dense(x, w, None, rate, training=True, seed=KEY))
    for rate in (0.5, 0.0, 1.0):
        equal(function(tf.constant(rate)), plain(x[:, None], w, rate)[:, 0])


def test_each_sample_has_weights_of_its_own_and_backward_the_same():
    x, w = tf.ones((50, 40)), tf.ones((40, 30))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = nn.drop_connect_dense(x, w, rate=0.5, training=True, seed=1)
    assert len({row.tobytes() for row in y.numpy()}) == 50
    # With ones everywhere both are sums of the same mask, over its columns and over its rows.
    gradient = tape.gradient(y, x).numpy()
    equal(gradient.sum(1), y.numpy().sum(1))
    kept = y.numpy().sum() / 2 / (50 * 40 * 30)
    z = (kept - 0.5) / math.sqrt(0.25 / (50 * 40 * 30))
    assert abs(z) < 5, z


@pytest.mark.parametrize("eagerly", [True, False])
def test_nothing_of_all_samples_weights_is_kept(eagerly):
    """N kernels of 32 × 16: of such a shape no tensor is an input of a gradient."""
    if eagerly:
        from tensorflow.python.eager import record

        held = []
        real = record.record_operation

        def spy(name, outputs, inputs, backward, *rest):
            held.extend(t.shape for t in (*outputs, *inputs) if hasattr(t, "shape"))
            return real(name, outputs, inputs, backward, *rest)

        x, w = tf.ones((5, 32)), tf.ones((32, 16))
        with tf.GradientTape() as tape, pytest.MonkeyPatch.context() as patch:
            patch.setattr(record, "record_operation", spy)
            patch.setattr(_compat, "record_operation", spy)
            tape.watch([x, w])
            nn.drop_connect_dense(x, w, rate=0.5, training=True, seed=KEY)
        assert (5, 1, 32) in held
        assert (5, 32, 16) not in held
        return
    with tf.Graph().as_default() as graph:
        x, w = v1.placeholder(tf.float32, (5, 32)), v1.placeholder(tf.float32, (32, 16))
        y = nn.drop_connect_dense(x, w, rate=0.5, training=True, seed=KEY)
        forward = {op.name for op in graph.get_operations()}
        tf.gradients(y, [x, w])
        large = [
            t for op in graph.get_operations() for t in op.outputs if 5 * 32 * 16 in (t.shape.num_elements(),)
        ]
        users = [u.name for t in large if t.op.name in forward for u in t.consumers()]
        assert users
        assert set(users) <= forward


def test_arguments_are_checked():
    x, w = tf.ones((2, 3)), tf.ones((3, 4))
    with pytest.raises(TypeError, match="training is missing"):
        nn.drop_connect(w, 0.5)
    with pytest.raises(TypeError, match="training is missing"):
        nn.drop_connect_dense(x, w)
    for bad in (-0.1, 1.5, math.nan):
        for training in (True, False):
            with pytest.raises(ValueError, match=r"rate must be in \[0, 1\]"):
                nn.drop_connect(w, bad, training=training)
            with pytest.raises(ValueError, match=r"rate must be in \[0, 1\]"):
                nn.drop_connect_dense(x, w, rate=bad, training=training)
    with pytest.raises(ValueError, match="mode must be"):
        nn.drop_connect(w, 0.5, training=True, mode="other")
    with pytest.raises(TypeError, match="x must be float32"):
        nn.drop_connect([1, 2], 0.5, training=True)
    for inputs, kernel in (((2, 4), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4, 5))):
        with pytest.raises(ValueError, match=r"kernel of shape .* does not fit inputs of shape"):
            nn.drop_connect_dense(tf.ones(inputs), tf.ones(kernel), training=True)


def test_integer_seeds_draw_anew():
    w = tf.ones((30, 30))
    masks = {nn.drop_connect(w, 0.5, training=True, seed=1).numpy().tobytes() for _ in range(3)}
    assert len(masks) == 3


def test_the_verb_agrees_with_the_core():
    w = whole(5, 7)
    equal(nn.drop_connect(w, 0.5, training=True, seed=KEY), dropout(w, 0.5, key=KEY, training=True))
    assert inspect.signature(nn.drop_connect).parameters["training"].kind is inspect.Parameter.KEYWORD_ONLY
