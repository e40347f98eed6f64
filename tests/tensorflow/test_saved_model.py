"""A saved model holds TensorFlow's own operators only, and draws the same bits without thinned."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import thinned
from thinned import Key
from thinned.tensorflow import _key, dropout, keep_mask

KEY = Key(2**63 + 1, 5)

READER = """
import sys
import numpy as np
import tensorflow as tf

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
model = tf.saved_model.load(folder)
x = tf.constant(given["x"])
assert "thinned" not in sys.modules
assert "ThinnedDropout" not in dir(tf.raw_ops)
assert np.array_equal(model.step(x, True), given["trained"])
assert np.array_equal(model.step(x, False), given["x"])
assert np.array_equal(model.loop(x), given["looped"])
assert np.array_equal(model.mask(), given["mask"])
assert np.array_equal(model.shared(x), given["shared"])
assert np.array_equal(model.by_seed(x, tf.constant([3, 4], tf.int64)), given["folded"])
assert np.array_equal(tf.function(model.shared, jit_compile=True)(x), given["shared"])
with tf.GradientTape() as tape:
    tape.watch(x)
    y = model.step(x, True)
assert np.array_equal(tape.gradient(y, x, x), given["trained"])
print("equal")
"""


class Model(tf.Module):
    """Everything that ends in a graph."""

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([], tf.bool)])
    def step(self, x, training):
        return dropout(x, 0.3, key=KEY, training=training)

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def loop(self, x):
        return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, self.step(y, True)), (0, x))[1]

    @tf.function
    def shared(self, x):
        return dropout(x, 0.3, key=KEY, training=True, noise_shape=(None, 1))

    @tf.function(input_signature=[])
    def mask(self):
        return keep_mask((9, 9), 0.3, key=KEY, global_shape=(99, 99), start=(5, 7))

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([2], tf.int64)])
    def by_seed(self, x, key):
        return dropout(x, 0.3, key=_key.fold(key, tf.constant(17)), training=True)


def numpy_dropout(x, key=KEY, **kwargs):
    return thinned.dropout(x, 0.3, key=key, training=True, **kwargs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that was traced and used before it was saved."""
    folder = str(tmp_path_factory.mktemp("saved") / "model")
    model = Model()
    x = np.random.default_rng(0).standard_normal((60, 50)).astype(np.float32)
    assert np.array_equal(model.step(x, True), numpy_dropout(x))
    assert np.array_equal(model.shared(x), numpy_dropout(x, noise_shape=(None, 1)))
    tf.saved_model.save(model, folder, signatures={"loop": model.loop.get_concrete_function()})
    np.savez(
        folder + "/given.npz",
        x=x,
        trained=numpy_dropout(x),
        looped=numpy_dropout(numpy_dropout(x)),
        mask=thinned.keep_mask((9, 9), 0.3, key=KEY, global_shape=(99, 99), start=(5, 7)),
        shared=numpy_dropout(x, noise_shape=(None, 1)),
        folded=numpy_dropout(x, Key(3, 4).fold(17)),
    )
    assert np.array_equal(model.step(x, True), numpy_dropout(x))
    return folder


def test_it_holds_tensorflows_own_operators_only(saved):
    model = saved_model_pb2.SavedModel()
    with open(saved + "/saved_model.pb", "rb") as file:
        model.ParseFromString(file.read())
    graph = model.meta_graphs[0].graph_def
    nodes = {node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
    assert "BitwiseXor" in nodes
    assert not [op for op in nodes if "hinned" in op]


@pytest.mark.full  # ten seconds; what stands in the graph is TensorFlow's alone, and is loaded below
def test_a_process_without_thinned_draws_the_same_bits(saved):
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "", "HOME": saved}
    result = subprocess.run(
        [sys.executable, "-c", READER, saved], capture_output=True, text=True, env=environment, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr


def test_this_process_can_load_it_too(saved):
    x = np.load(saved + "/given.npz")["x"]
    loaded = tf.saved_model.load(saved)
    assert np.array_equal(loaded.step(x, True), numpy_dropout(x))
    assert np.array_equal(dropout(x, 0.3, key=KEY, training=True), numpy_dropout(x))


def test_what_was_saved_once_can_be_saved_again(saved, tmp_path):
    tf.saved_model.save(tf.saved_model.load(saved), str(tmp_path / "again"))
    x = np.load(saved + "/given.npz")["x"]
    assert np.array_equal(tf.saved_model.load(str(tmp_path / "again")).step(x, True), numpy_dropout(x))
