"""Ways to run a function of `tf.nn`, and numbers for it."""

import numpy as np
import tensorflow as tf

from thinned import Key

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


def numbers(dtype_name="float32", shape=SHAPE):
    x = np.random.default_rng(0).standard_normal(shape)
    return tf.cast(x, dtype_name).numpy()


def equal(a, b):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()
