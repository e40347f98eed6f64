"""Keras, arrays in and arrays out: in a process of its own for a backend that is not this process's."""

import os
from multiprocessing import get_context
from unittest.mock import patch

import numpy as np


def serve(pipe):
    """Answer calls until there are no more."""
    import keras

    import thinned.keras

    pipe.send(keras.backend.backend())
    while True:
        try:
            name, args, options = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, CALLS[name](keras, thinned.keras, *args, **options)))
        except (TypeError, ValueError) as error:
            pipe.send((False, error))


def tensor(keras, x):
    return keras.ops.convert_to_tensor(x, dtype=x.dtype.name)


def array(keras, y, dtype):
    """NumPy's own array of what may be a bfloat16 tensor."""
    wide = y if dtype.name != "bfloat16" else keras.ops.cast(y, "float32")
    return np.asarray(keras.ops.convert_to_numpy(wide)).astype(dtype)


def mask(keras, ours, shape, p, key):
    return np.asarray(keras.ops.convert_to_numpy(ours.keep_mask(shape, p, key=key)))


def dropout(keras, ours, x, p, **options):
    return array(keras, ours.dropout(tensor(keras, x), p, **options), x.dtype)


def layer(keras, ours, x, rate, key, name):
    """Two calls of a training layer with this seed."""
    made = ours.Dropout(rate, seed=key, name=name)
    return [array(keras, made(tensor(keras, x), training=True), x.dtype) for _ in range(2)]


def gradient(keras, ours, x, upstream, p, **options):
    backend = keras.backend.backend()

    def thin(x):
        return ours.dropout(x, p, training=True, **options)

    if backend == "jax":
        import jax

        return array(keras, jax.vjp(thin, tensor(keras, x))[1](tensor(keras, upstream))[0], x.dtype)
    if backend == "torch":
        leaf = tensor(keras, x).requires_grad_()
        thin(leaf).backward(tensor(keras, upstream))
        return array(keras, leaf.grad, x.dtype)
    import tensorflow as tf

    leaf = tensor(keras, x)
    with tf.GradientTape() as tape:
        tape.watch(leaf)
        y = thin(leaf)
    return array(keras, tape.gradient(y, leaf, output_gradients=tensor(keras, upstream)), x.dtype)


CALLS = {"keep_mask": mask, "dropout": dropout, "gradient": gradient, "layer": layer}


class Keras:
    """This process for the backend that Keras has here, else one that is started at the first call."""

    def __init__(self, backend):
        self.backend, self.pipe = backend, None

    def __call__(self, name, *args, **options):
        import keras

        import thinned.keras

        if keras.backend.backend() == self.backend:
            return CALLS[name](keras, thinned.keras, *args, **options)
        if self.pipe is None:
            self.start()
        self.pipe.send((name, args, options))
        done, result = self.pipe.recv()
        if not done:
            raise result
        return result

    def start(self):
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        # A new process reads its environment at its start. JAX has float64 only where it is asked for.
        with patch.dict(os.environ, {"KERAS_BACKEND": self.backend, "JAX_ENABLE_X64": "1"}):
            context.Process(target=serve, args=(other,), daemon=True).start()
        assert self.pipe.recv() == self.backend
