"""The few things that Keras has no word for: gradients and compilation, on the active backend."""

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
# Ways to compile, the cheapest first. Generated code takes a C++ compiler seconds a function.
WAYS = {
    "torch": ["aot_eager", pytest.param("inductor", marks=pytest.mark.full)],
    "jax": ["jit"],
    "tensorflow": ["function", pytest.param("unknown shape", marks=pytest.mark.full), "XLA"],
}[BACKEND]


def tensor(x):
    return keras.ops.convert_to_tensor(x)


def array(x):
    """As NumPy, low precision widened: to float32 and back nothing is lost."""
    wide = "float32" if keras.backend.standardize_dtype(x.dtype) in ("bfloat16", "float16") else None
    return keras.ops.convert_to_numpy(x if wide is None else keras.ops.cast(x, wide))


def widened(x):
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def same_bits(got, expected):
    """To the bit, signs of zeros too."""
    got, expected = array(got), widened(np.asarray(expected))
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


def gradient(function, x, upstream):
    """Of the sum of function(x) · upstream."""
    x, upstream = tensor(x), tensor(upstream)
    if BACKEND == "torch":
        x.requires_grad_()
        function(x).backward(upstream)
        return x.grad
    if BACKEND == "jax":
        import jax

        return jax.vjp(function, x)[1](upstream)[0]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, upstream)


def compiled(layer, way):
    """Training calls of a built layer, compiled in one of the `WAYS`; they keep its state."""
    if BACKEND == "torch":
        import torch

        return torch.compile(lambda x: layer(x, training=True), backend=way)
    if BACKEND == "jax":
        import jax

        call = jax.jit(lambda own, other, x: layer.stateless_call(own, other, x, training=True))

        def jitted(x):
            own, other = (
                [v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables)
            )
            y, state = call(own, other, x)
            for variable, value in zip(layer.non_trainable_variables, state, strict=True):
                variable.assign(value)
            return y

        return jitted
    import tensorflow as tf

    def graph(x):
        return layer(x, training=True)

    signature = [tf.TensorSpec([None] * 3)] if way == "unknown shape" else None
    return tf.function(graph, input_signature=signature, jit_compile=way == "XLA")
