"""The ways a TensorFlow program may run one call."""

import numpy as np
import pytest
import tensorflow as tf

from thinned.tensorflow import _native


def eager(f, *arguments):
    return f(*arguments)


def function(f, *arguments):
    return tf.function(f)(*arguments)


def unknown_shape(f, x, *rest):
    """A function that learns x's sizes only when it runs."""
    x = tf.convert_to_tensor(x)
    signature = [tf.TensorSpec([None] * x.shape.rank, x.dtype), *(tf.TensorSpec.from_tensor(a) for a in rest)]
    return tf.function(f, signature)(x, *rest)


def unknown_rank(f, x, *rest):
    """A function that learns even x's rank only when it runs."""
    x = tf.convert_to_tensor(x)
    signature = [tf.TensorSpec(None, x.dtype), *(tf.TensorSpec.from_tensor(a) for a in rest)]
    return tf.function(f, signature)(x, *rest)


def plain(f, *arguments):
    """A function that the native operator has no part in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "operators", lambda: None)
        return tf.function(f)(*arguments)


def xla(f, *arguments):
    return tf.function(f, jit_compile=True)(*arguments)


def session(f, *arguments):
    """TensorFlow 1: a graph, placeholders that learn their sizes when they are fed, a session."""
    arguments = [np.asarray(a) for a in arguments]
    with tf.Graph().as_default(), tf.compat.v1.Session() as run:
        shapes = [a.shape if a.dtype.kind == "i" else [None] * a.ndim for a in arguments]
        fed = [tf.compat.v1.placeholder(a.dtype, s) for a, s in zip(arguments, shapes, strict=True)]
        return Fetched(run.run(f(*fed), dict(zip(fed, arguments, strict=True))))


class Fetched:
    """A session's array, to be read as a tensor is."""

    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array


WAYS = [eager, function, unknown_shape, unknown_rank, xla, session]
# For what only turns TensorFlow's arguments into those of `thinned.tensorflow.dropout`, which has a test by
# each way: with values, with sizes that are not known, and in a session. XLA compiles each call.
ABOVE = [
    way if way in (eager, unknown_shape, session) else pytest.param(way, marks=pytest.mark.full)
    for way in WAYS
]


def bits(tensor):
    """What two outputs have to have in common."""
    array = tensor.numpy()
    return array.dtype.name, array.shape, array.tobytes()
