"""Families beside dropout in graphs: of sizes that are not known, under XLA, with `training` a tensor."""

import numpy as np
import pytest
import tensorflow as tf

import thinned.tensorflow as tt
from thinned import Key

KEY = Key(3, 1)
X = np.linspace(1, 2, 6 * 8, dtype=np.float32).reshape(6, 8)
MAPS = np.linspace(1, 2, 4 * 8 * 6 * 2, dtype=np.float32).reshape(4, 8, 6, 2)
EDGES = np.arange(40).reshape(2, 20)
IDS = np.array([7, 1, 0, 4, 30, 2])
# The inputs, and a call on a tensor of them and on `training`.
FAMILIES = {
    "concrete_dropout": (X, lambda x, on: tt.concrete_dropout(x, 0.4, key=KEY, training=on)),
    "cutout": (MAPS, lambda x, on: tt.cutout(x, 3, 1.0, key=KEY, training=on)),
    "drop_edge": (EDGES, lambda x, on: tt.drop_edge(x, 0.4, key=KEY, training=on)),
    "drop_message": (X, lambda x, on: tt.drop_message(x, 0.4, key=KEY, training=on)),
    "drop_node": (X, lambda x, on: tt.drop_node(x, 0.4, key=KEY, training=on, node_ids=IDS)),
    "mask_spans": (MAPS, lambda x, on: tt.mask_spans(x, 4, 2, 1, key=KEY, training=on)),
    "word_dropout": (EDGES, lambda x, on: tt.word_dropout(x, 0.4, 0, key=KEY, training=on)),
}
every = pytest.mark.parametrize(
    "name",
    [name if name == "word_dropout" else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES],
)


def unknown(x, name):
    """Of no size but where a verb needs one: edges come in two rows, messages have their columns."""
    sizes = {"drop_edge": (2, None), "drop_node": (None, 8)}.get(name, (None,) * x.ndim)
    return tf.TensorSpec(sizes, tf.as_dtype(x.dtype))


@every
def test_a_graph_of_unknown_sizes_has_the_masks_of_eager_code(name):
    x, call = FAMILIES[name]
    eager, plain = call(tf.constant(x), True), call(tf.constant(x), False)
    assert (eager.numpy() != plain.numpy()).any()
    graph = tf.function(call, input_signature=[unknown(x, name), tf.TensorSpec((), tf.bool)])
    np.testing.assert_allclose(graph(x, True), eager, rtol=1e-6)
    np.testing.assert_array_equal(graph(x, False), plain)


@pytest.mark.full
@pytest.mark.parametrize("name", FAMILIES)
def test_xla_has_them_too(name):
    x, call = FAMILIES[name]
    compiled = tf.function(lambda x: call(x, True), jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(x)), call(tf.constant(x), True), rtol=1e-5)


@pytest.mark.full
def test_a_graph_refuses_numbers_outside_the_whole_when_it_runs():
    graph = tf.function(lambda x: tt.drop_edge(x, 0.4, key=KEY, training=True, num_nodes=9))
    with pytest.raises(tf.errors.InvalidArgumentError, match="nodes must be numbers from 0 to num_nodes - 1"):
        graph(tf.constant(EDGES))


@pytest.mark.full
def test_gradients_of_gradients_of_a_relaxed_mask():
    x, p, step = X.astype(np.float64), tf.Variable(0.4, dtype=tf.float64), 1e-4
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = tf.reduce_sum(tt.concrete_dropout(x, p, key=KEY, training=True) ** 2)
        first = inner.gradient(y, p)

    def slope(at):
        rate = tf.Variable(at, dtype=tf.float64)
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(tt.concrete_dropout(x, rate, key=KEY, training=True) ** 2)
        return float(tape.gradient(y, rate))

    expected = (slope(0.4 + step) - slope(0.4 - step)) / (2 * step)
    np.testing.assert_allclose(outer.gradient(first, p), expected, rtol=1e-3)


def of_unknown(verb, *shapes):
    """A function of tensors whose sizes are known when it runs."""
    kinds = [tf.TensorSpec(shape, dtype) for shape, dtype in shapes]
    return tf.function(verb, input_signature=kinds)


def test_sizes_of_a_running_graph_are_checked():
    """A span that was too wide masked what it met; one id decided for all rows."""
    spans = of_unknown(
        lambda x: tt.mask_spans(x, 7, 2, 1, key=KEY, training=True), ((None, None), tf.float32)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"width must be from 0 to .* got 7"):
        spans(tf.ones((2, 4)))
    rows = of_unknown(
        lambda x, ids: tt.drop_message(x, 0.5, key=KEY, training=True, edge_ids=ids),
        ((None, None), tf.float32),
        ((None,), tf.int32),
    )
    x = tf.ones((4, 2))
    known = tt.drop_message(x, 0.5, key=KEY, training=True, edge_ids=[3, 1, 0, 9])
    assert bool(tf.reduce_all(rows(x, tf.constant([3, 1, 0, 9])) == known))
    for other, ids in ((x, [0]), (x[:1], [0, 1, 2, 3])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="ids do not fit x"):
            rows(other, tf.constant(ids))


def test_a_learned_rate_is_checked():
    x = tf.ones(6)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        tt.concrete_dropout(x, tf.constant(1.5), key=KEY, training=True)
    graph = tf.function(lambda p: tt.concrete_dropout(x, p, key=KEY, training=True))
    for p in (1.5, -0.2):
        assert bool(tf.reduce_all(tf.math.is_nan(graph(tf.constant(p)))))
    with pytest.raises(ValueError, match=r"p of shape \(3, 1\) does not fit x of shape \(6,\)"):
        tt.concrete_dropout(x, tf.fill((3, 1), 0.5), key=KEY, training=True)


def test_a_number_of_dimensions_is_asked_for():
    for verb in (
        lambda x: tt.mask_spans(x, 1, 1, 1, key=KEY, training=True),
        lambda x: tt.cutout(x, 1, key=KEY, training=True),
        lambda x: tt.drop_node(x, 0.5, key=KEY, training=True),
    ):
        with pytest.raises(ValueError, match="x must have a known number of dimensions"):
            of_unknown(verb, (None, tf.float32)).get_concrete_function()
