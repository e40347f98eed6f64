"""Cells and their plain loops: what `DropoutWrapper` of TensorFlow is held against."""

from collections import namedtuple

import numpy as np
import tensorflow as tf

import thinned
from thinned import Key

v1 = tf.compat.v1
B, T, F, H = 2, 2, 8, 8
KEY = Key(42, 7)
KEEPS = {"input_keep_prob": 0.75, "output_keep_prob": 0.5, "state_keep_prob": 0.625}
LSTMStateTuple = namedtuple("LSTMStateTuple", "c h")


class Sum:
    """A cell of whole numbers, so that arithmetic is exact in any order."""

    state_size = output_size = H

    def __call__(self, inputs, state):
        return 2 * inputs + state, inputs + 2 * state


class Memory(tf.Module):
    """An LSTM of TensorFlow 1's form: state (c, h), variables of its own."""

    state_size, output_size = LSTMStateTuple(H, H), H

    def __init__(self):
        super().__init__()
        start = np.random.default_rng(1).standard_normal((F + H, 4 * H)).astype(np.float32)
        self.kernel = tf.Variable(start)

    def zero_state(self, batch_size, dtype):
        return LSTMStateTuple(*(tf.zeros((batch_size, H), dtype) for _ in range(2)))

    def __call__(self, inputs, state, scope=None):
        i, j, f, o = tf.split(tf.concat([inputs, state.h], 1) @ self.kernel, 4, 1)
        c = state.c * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j)
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, LSTMStateTuple(c, h)


class Echo:
    """Output the input; state what it was."""

    state_size = output_size = 50

    def __call__(self, inputs, state):
        return inputs, state


def whole(*shape):
    return np.random.default_rng(0).integers(1, 9, shape).astype(np.float32)


def masked(x, keep_prob, key, variational):
    x = np.asarray(x)
    noise = (1, *(None,) * (x.ndim - 1)) if variational else None
    return thinned.dropout(x, 1 - keep_prob, key=key, training=True, noise_shape=noise)


def flat(state):
    return [np.asarray(leaf) for leaf in tf.nest.flatten(state)]


def same(a, b):
    return [x.tobytes() for x in flat(a)] == [x.tobytes() for x in flat(b)]
