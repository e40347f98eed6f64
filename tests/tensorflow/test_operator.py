"""The native operator and the gradient: where each runs, what is kept, what is refused."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ways import bits, eager, function, session, unknown_rank, xla

import thinned
from thinned import Key
from thinned.tensorflow import _compat, _graph, _key, _native, dropout, keep_mask

KEY = Key(11, 3)
DTYPES = [tf.float32, tf.float64, tf.float16, tf.bfloat16]
WAYS = pytest.mark.parametrize("way", [eager, function, unknown_rank, xla], ids=lambda way: way.__name__)

native = pytest.mark.skipif(
    _native.operators() is None, reason="no native library for TensorFlow in this build"
)


def drop(x, p=0.4, **kwargs):
    return dropout(x, p, key=KEY, training=True, **kwargs)


def with_gradient(x, upstream, **kwargs):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = drop(x, **kwargs)
    return y, tape.gradient(y, x, upstream)


def operators_of(f, *arguments):
    """The kinds of nodes that the process runs, in all of its functions."""
    from tensorflow.python.eager import context

    library = context.context()
    seen, names, found = set(), [f.get_concrete_function(*arguments).function_def.signature.name], set()
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            for node in library.get_function_def(name).node_def:
                found.add(node.op)
                names += [node.attr["f"].func.name] if "f" in node.attr else []
    return found


# Where it runs.


@native
def test_a_graph_runs_the_native_operator_and_holds_the_plain_one():
    f = tf.function(lambda x, k: (drop(x), keep_mask(9, 0.5, key=k), _key.fold(k, 3)))
    arguments = tf.TensorSpec([None], tf.float32), tf.TensorSpec([2], tf.int64)
    assert {"ThinnedDropout", "ThinnedKeepMask", "ThinnedFold"} <= operators_of(f, *arguments)
    graph = f.get_concrete_function(*arguments).graph.as_graph_def()
    nodes = {node.op for node in graph.node} | {n.op for g in graph.library.function for n in g.node_def}
    assert "BitwiseXor" in nodes
    assert not [op for op in nodes if "Thinned" in op]


def test_under_xla_there_is_no_call_to_a_native_body():
    inner = tf.function(lambda x: drop(x))
    assert inner(tf.ones(9)).shape == 9  # traced before, outside
    outer = tf.function(lambda x: inner(x), jit_compile=True)
    assert bits(outer(tf.ones(999))) == bits(inner(tf.ones(999)))
    assert "ThinnedDropout" not in operators_of(outer, tf.ones(999))


@native
def test_the_operator_itself_checks_what_it_is_given():
    number = tf.constant(0, tf.int64)
    arguments = {
        "x": tf.ones((2, 3)),
        "key": [1, 2],
        "drop": 2**30,
        "factor": 1.5,
        "base": number,
        "strides": [],
    }
    run = _native.operators().thinned_dropout
    assert run(**arguments).shape == (2, 3)
    for wrong in ({"key": [1]}, {"drop": -1}, {"drop": 2**32 + 1}, {"factor": [1.0, 2.0]}, {"strides": [1]}):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must"):
            run(**{**arguments, **wrong})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"data must be in \[0, 2\^60\)"):
        _native.operators().thinned_fold([1, 2], -1)


@native
def test_a_graph_drops_in_place_only_what_nobody_else_reads():
    @tf.function
    def of(x):
        alone = x * 2
        shared = x * 3
        return drop(alone), drop(shared), shared, drop(x)

    x = tf.random.normal((100_000,))
    before = x.numpy().copy()
    one, two, shared, three = of(x)
    expected = [thinned.dropout(before * n, 0.4, key=KEY, training=True) for n in (2, 3, 1)]
    for got, one_expected in zip((one, two, three), expected, strict=True):
        assert np.array_equal(got, one_expected)
    assert np.array_equal(shared, before * 3)
    assert np.array_equal(x, before)


@native
@pytest.mark.parametrize("way", [eager, function, unknown_rank], ids=lambda way: way.__name__)
def test_subnormal_numbers_are_numbers(way):
    """TensorFlow's threads take them for zero; the operator does not."""
    for n in (300, 1_000_000):
        x = np.linspace(-1e-38, 1e-38, n, dtype=np.float32)
        assert np.array_equal(way(drop, x), thinned.dropout(x, 0.4, key=KEY, training=True))


def test_in_control_flow_and_data_pipelines():
    x = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)
    expected = thinned.dropout(x, 0.4, key=KEY, training=True)
    twice = thinned.dropout(expected, 0.4, key=KEY, training=True)

    @tf.function
    def of(v):
        looped = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, drop(y)), (0, v))[1]
        branch = tf.cond(tf.reduce_sum(v) < 1e9, lambda: drop(v), lambda: v)
        rows = tf.map_fn(lambda row: drop(row), v)
        return looped, branch, rows

    looped, branch, rows = of(x)
    assert np.array_equal(looped, twice)
    assert np.array_equal(branch, expected)
    assert np.array_equal(rows, [thinned.dropout(row, 0.4, key=KEY, training=True) for row in x])
    data = tf.data.Dataset.from_tensors(x).map(drop)
    assert np.array_equal(next(iter(data)), expected)


def test_a_frozen_graph_runs():
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    f = tf.function(drop).get_concrete_function(tf.TensorSpec([None], tf.float32))
    frozen = convert_variables_to_constants_v2(f)
    assert "Thinned" not in str({node.op for node in frozen.graph.as_graph_def().node})
    assert np.array_equal(frozen(tf.ones(999))[0], drop(tf.ones(999)))


# The gradient.


@pytest.mark.covering(strength=1)  # a way is how the operator is called, a type what it does
@WAYS
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_forward_and_backward_have_one_mask(way, dtype):
    """Ones in, ones back: the zeros of y are the zeros of x's gradient, to the bit."""
    y, gradient = way(with_gradient, tf.ones((30, 7), dtype), tf.ones((30, 7), dtype))
    assert bits(y) == bits(gradient)
    assert 0 < np.count_nonzero(y.numpy() == 0) < 210


PLACES = [{}, {"noise_shape": (1, None)}, {"global_shape": (9, 9), "start": (1, 2), "mode": "classic"}]


@pytest.mark.covering(strength=1)  # places are numbers of the operator, whichever way it is called
@pytest.mark.parametrize("place", PLACES, ids=str)
@WAYS
def test_the_gradient_is_the_same_dropout_of_the_upstream(way, place):
    upstream = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    x = tf.ones((6, 7))
    _, gradient = way(lambda v, u: with_gradient(v, u, **place), x, tf.constant(upstream))
    assert np.array_equal(gradient, thinned.dropout(upstream, 0.4, key=KEY, training=True, **place))


def test_gradients_of_tensorflow_1():
    upstream = np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32)
    got = session(lambda v, u: tf.gradients(drop(v), v, u)[0], np.ones((6, 7), np.float32), upstream)
    assert np.array_equal(got.numpy(), thinned.dropout(upstream, 0.4, key=KEY, training=True))


@WAYS
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropped_places_are_zero_both_ways(way, p):
    bad = tf.constant(np.resize(np.float32([np.nan, np.inf, -np.inf, -1.0]), 300))
    dropped = ~thinned.keep_mask(300, p, key=KEY)
    for tensor in way(lambda x, u: with_gradient(x, u, p=p), bad, bad):
        assert not tensor.numpy()[dropped].view(np.int32).any()
    assert dropped.any()


@WAYS
def test_second_derivatives(way):
    """Of the cube of y: 6 · y · factor², where it is kept."""

    def second(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                cube = drop(x, 0.5) ** 3
            first = inner.gradient(cube, x)
        return outer.gradient(first, x)

    x = tf.constant(np.arange(1.0, 21.0, dtype=np.float32))
    assert np.array_equal(way(second, x), 6 * drop(x, 0.5).numpy() * 4)


@pytest.mark.parametrize("way", [eager, function, unknown_rank], ids=lambda way: way.__name__)
def test_forward_mode(way):
    def of(x, v):
        with tf.autodiff.ForwardAccumulator(x, v) as accumulator:
            y = drop(x)
        return accumulator.jvp(y)

    v = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    assert np.array_equal(
        way(of, tf.ones(50), tf.constant(v)), thinned.dropout(v, 0.4, key=KEY, training=True)
    )


def test_a_tape_outside_of_the_function():
    x = tf.Variable(tf.ones((30, 7)))
    f = tf.function(lambda: drop(x * 1.0))
    with tf.GradientTape() as tape:
        y = f()
    assert bits(y) == bits(tape.gradient(y, x))


def test_a_sparse_gradient():
    x = tf.Variable(tf.ones((5, 4)))
    with tf.GradientTape() as tape:
        y = tf.gather(drop(tf.convert_to_tensor(x)), [1, 1, 3])
    counts = np.float32([[0], [2], [0], [1], [0]]) * np.ones((1, 4), np.float32)
    assert np.array_equal(tape.gradient(y, x), thinned.dropout(counts, 0.4, key=KEY, training=True))


@WAYS
def test_p_has_no_gradient(way):
    def of(x, p):
        with tf.GradientTape() as tape:
            tape.watch([x, p])
            y = drop(x, p)
        by_x, by_p = tape.gradient(y, [x, p])
        assert by_p is None
        return by_x

    assert way(of, tf.ones(9), tf.constant(0.5)).shape == 9


def test_a_tape_keeps_nothing_of_xs_size():
    x = tf.ones(1000) * 2
    gc.collect()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = drop(x)
    of_x, of_y = weakref.ref(x), weakref.ref(y)
    total = tf.reduce_sum(tf.ones(1))
    del x, y
    gc.collect()
    assert total == 1
    assert of_x() is None
    assert of_y() is None
    del tape


@pytest.mark.parametrize("size", [None, 1000])
def test_a_functions_backward_pass_takes_nothing_of_xs_size(size):
    """What the forward function hands to the backward one beside the upstream gradient."""
    f = tf.function(drop).get_concrete_function(tf.TensorSpec([size], tf.float32))
    forward, backward = f._delayed_rewrite_functions.forward_backward()
    kept = forward.cached_graph.outputs[1:] if hasattr(forward, "cached_graph") else forward.graph.outputs[1:]
    assert all(tensor.shape.rank == 0 or tensor.shape == (2,) for tensor in kept), kept
    assert backward is not None


def test_recorded_is_what_is_used(monkeypatch):
    """No tape, no record."""

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(_compat, "record_operation", refuse)
    drop(tf.ones(3))
    with tf.GradientTape(), pytest.raises(AssertionError):
        drop(tf.ones(3))


@pytest.mark.parametrize("path", _compat._OF_GRAPHS)
def test_without_what_graphs_need_tensorflows_operators_do_the_work(monkeypatch, path):
    expected = drop(tf.ones(1000)).numpy()
    gone = [name._replace(value=name.fallback) if name.path == path else name for name in _compat.ROOM.names]
    monkeypatch.setattr(_compat.ROOM, "names", gone)
    _graph._can_call.cache_clear()
    with pytest.warns(RuntimeWarning, match=f"lacks {path}"):
        assert not _graph.may_call()
    made = tf.function(drop).get_concrete_function(tf.TensorSpec([1000], tf.float32))
    assert not [op for op in made.graph.get_operations() if "Call" in op.type]
    _graph._can_call.cache_clear()
    assert made(tf.ones(1000)).numpy().tobytes() == expected.tobytes()


def test_without_a_recorder_the_gradient_is_the_same(monkeypatch):
    with tf.GradientTape() as tape:
        x = tf.Variable(tf.ones(1000))
        expected = drop(x)
    before = tape.gradient(expected, x).numpy()
    monkeypatch.setattr(_compat, "record_operation", None)
    with tf.GradientTape() as tape:
        y = drop(x)
    assert y.numpy().tobytes() == expected.numpy().tobytes()
    assert tape.gradient(y, x).numpy().tobytes() == before.tobytes()
