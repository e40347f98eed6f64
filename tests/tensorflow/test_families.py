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
    p = tf.Variable(0.4)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            y = tf.reduce_sum(tt.concrete_dropout(X, p, key=KEY, training=True) ** 2)
        first = inner.gradient(y, p)
    step = 3e-3

    def slope(at):
        rate = tf.Variable(at)
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(tt.concrete_dropout(X, rate, key=KEY, training=True) ** 2)
        return float(tape.gradient(y, rate))

    expected = (slope(0.4 + step) - slope(0.4 - step)) / (2 * step)
    np.testing.assert_allclose(outer.gradient(first, p), expected, rtol=5e-2)
