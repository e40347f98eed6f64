"""The front ends, eager and compiled, each behind the verbs `keep_mask`, `dropout`, `gradient` and `fold`.

Arrays go in and come out. A "face" is a framework and a way of running it. What a framework lacks is in
LACKS, from which the documents' table is made.
"""

from functools import cached_property, partial

import jax
import ml_dtypes
import numpy as np
import tensorflow as tf
import torch
from conformance_keras import Keras
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import thinned
import thinned.jax
import thinned.tensorflow
import thinned.torch.functional
from thinned import Key
from thinned.contract import fold_number
from thinned.jax import _key as jax_key
from thinned.tensorflow import _key as tensorflow_key
from thinned.torch import _key as torch_key

FEATURES = {
    "shards": "`global_shape` and `start`",
    "gradient": "gradients with the forward's mask",
    "fold": "folding a key that is data in a graph",
}

# (family, feature): why not.
LACKS = {
    ("numpy", "gradient"): "NumPy has no derivatives: the gradient is the same call on the upstream gradient",
    ("numpy", "fold"): "there is no graph: `Key.fold`",
    ("keras", "shards"): "Keras has no shard's view of a tensor: use the backend's front end",
    ("keras", "fold"): "a layer folds its name and the call's number by itself; else `Key.fold`",
}


class Face:
    """What is the same for all: many calls are one after another, unless there is one program for them."""

    def dropouts(self, cases):
        return [self.dropout(x, p, **options) for x, p, options in cases]


class NumPy(Face):
    family = "numpy"

    def keep_mask(self, shape, p, *, key, **options):
        return thinned.keep_mask(shape, p, key=key, **options)

    def dropout(self, x, p, *, key, training=True, **options):
        return thinned.dropout(x, p, key=key, training=training, **options)


class Torch(Face):
    family = "torch"

    def __init__(self, compiled=False):
        self.compiled = compiled

    def run(self, function, *inputs):
        if self.compiled:
            torch.compiler.reset()
            try:
                return torch.compile(function, backend="aot_eager", fullgraph=True)(*inputs)
            except torch._dynamo.exc.Unsupported:  # an exception of ours: it is raised in eager mode
                torch.compile(function, backend="aot_eager")(*inputs)
                raise
        return function(*inputs)

    def tensor(self, x):
        if x.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(x.copy())

    def array(self, y):
        y = y.detach()
        if y.dtype == torch.bfloat16:
            return y.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return y.numpy()

    def keep_mask(self, shape, p, *, key, **options):
        mask = partial(thinned.torch.functional.keep_mask, shape, p, key=key, **options)
        return self.array(self.run(mask))

    def dropout(self, x, p, *, key, training=True, **options):
        thin = partial(thinned.torch.functional.dropout, p=p, key=key, training=training, **options)
        return self.array(self.run(thin, self.tensor(x)))

    def dropouts(self, cases):
        def thin(*inputs):
            pairs = zip(inputs, cases, strict=True)
            return [
                thinned.torch.functional.dropout(x, p, training=True, **options)
                for x, (_, p, options) in pairs
            ]

        return [self.array(y) for y in self.run(thin, *(self.tensor(x) for x, _, _ in cases))]

    def gradient(self, x, upstream, p, **options):
        leaf = self.tensor(x).requires_grad_()
        thin = partial(thinned.torch.functional.dropout, p=p, training=True, **options)
        self.run(thin, leaf).backward(self.tensor(upstream))
        return self.array(leaf.grad)

    def fold(self, key, data):
        seed, stream = self.run(
            partial(torch_key.fold, data=fold_number(data)), torch_key.as_tensor(key)
        ).tolist()
        return Key(seed % 2**64, stream % 2**64)


class Jax(Face):
    family = "jax"

    def __init__(self, wrap=lambda f: f):
        self.wrap = wrap

    def run(self, function, *inputs):
        with jax.enable_x64(any(x.dtype == np.float64 for x in inputs)):
            return jax.tree.map(np.asarray, self.wrap(function)(*inputs))

    def keep_mask(self, shape, p, *, key, **options):
        return self.run(lambda: thinned.jax.keep_mask(shape, p, key=key, **options))

    def dropout(self, x, p, *, key, training=True, **options):
        return self.run(lambda x: thinned.jax.dropout(x, p, key=key, training=training, **options), x)

    def dropouts(self, cases):
        def thin(*inputs):
            pairs = zip(inputs, cases, strict=True)
            return [thinned.jax.dropout(x, p, training=True, **options) for x, (_, p, options) in pairs]

        return self.run(thin, *(x for x, _, _ in cases))

    def gradient(self, x, upstream, p, **options):
        def back(x, upstream):
            return jax.vjp(lambda x: thinned.jax.dropout(x, p, training=True, **options), x)[1](upstream)[0]

        return self.run(back, x, upstream)

    def fold(self, key, data):
        words = self.run(lambda words: thinned.jax.fold(words, data), jax_key.words(key)).astype(np.uint64)
        return Key(*(int(low | high << np.uint64(32)) for low, high in (words[:2], words[2:])))


def mapped(function):
    """The second of three examples."""

    def second(*inputs):
        stacked = (np.stack([np.zeros_like(x), x, np.ones_like(x)]) for x in inputs)
        return jax.tree.map(lambda y: y[1], jax.jit(jax.vmap(function, axis_size=3))(*stacked))

    return second


class Divided:
    """Inputs, or where there are none the output, in parts: along the dimension of most elements."""

    def __init__(self, *sizes):
        self.sizes = sizes

    @cached_property
    def mesh(self):
        devices = np.array(jax.devices()[: int(np.prod(self.sizes))]).reshape(self.sizes)
        return Mesh(devices, tuple("ab"[: len(self.sizes)]))

    def part(self, shape):
        entries, axes = [None] * len(shape), list(self.mesh.axis_names)
        for d in sorted(range(len(shape)), key=lambda d: -shape[d])[: len(axes)]:
            entries[d] = axes.pop(0)
        return NamedSharding(self.mesh, PartitionSpec(*entries))

    def __call__(self, function):
        def divide(x):
            return jax.lax.with_sharding_constraint(x, self.part(x.shape))

        return jax.jit(lambda *inputs: jax.tree.map(divide, function(*map(divide, inputs))))


class TensorFlow(Face):
    family = "tensorflow"

    def __init__(self, **options):
        self.options = options

    def run(self, function, *inputs):
        function = tf.function(function, **self.options) if self.options else function
        return tf.nest.map_structure(lambda y: y.numpy(), function(*map(tf.constant, inputs)))

    def keep_mask(self, shape, p, *, key, **options):
        return self.run(lambda: thinned.tensorflow.keep_mask(shape, p, key=key, **options))

    def dropout(self, x, p, *, key, training=True, **options):
        return self.run(lambda x: thinned.tensorflow.dropout(x, p, key=key, training=training, **options), x)

    def dropouts(self, cases):
        def thin(*inputs):
            pairs = zip(inputs, cases, strict=True)
            return [
                thinned.tensorflow.dropout(x, p, training=True, **options) for x, (_, p, options) in pairs
            ]

        return self.run(thin, *(x for x, _, _ in cases))

    def gradient(self, x, upstream, p, **options):
        def back(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = thinned.tensorflow.dropout(x, p, training=True, **options)
            return tape.gradient(y, x, output_gradients=upstream)

        return self.run(back, x, upstream)

    def fold(self, key, data):
        signed = np.array([key.seed, key.stream], np.uint64).astype(np.int64)
        folded = self.run(lambda words: tensorflow_key.fold(words, data), signed)
        return Key(*(int(word) % 2**64 for word in folded))


class KerasFace(Face):
    family = "keras"

    def __init__(self, backend):
        self.call = Keras(backend)

    def keep_mask(self, shape, p, *, key):
        return self.call("keep_mask", shape, p, key)

    def dropout(self, x, p, *, key, training=True, **options):
        return self.call("dropout", x, p, key=key, training=training, **options)

    def gradient(self, x, upstream, p, **options):
        return self.call("gradient", x, upstream, p, **options)


FACES = {
    "numpy": NumPy(),
    "torch": Torch(),
    "torch compiled": Torch(compiled=True),
    "jax": Jax(),
    "jax jit": Jax(jax.jit),
    "jax vmap": Jax(mapped),
    "jax 4x2 devices": Jax(Divided(4, 2)),
    "jax 3 devices": Jax(Divided(3)),
    "jax 5 devices": Jax(Divided(5)),
    "tensorflow": TensorFlow(),
    "tensorflow function": TensorFlow(jit_compile=False),
    "tensorflow xla": TensorFlow(jit_compile=True),
    "keras on torch": KerasFace("torch"),
    "keras on jax": KerasFace("jax"),
    "keras on tensorflow": KerasFace("tensorflow"),
}

# Faces that the quick tier leaves out. Keras on these backends is examined by its own suite, in processes
# that are started anyway, and 5 devices divide no case otherwise than 3.
LEFT = ["jax 5 devices", "keras on torch", "keras on jax"]

# Faces whose arguments another's code checks: their cases of the rulings are the full tier's; of what
# compiles a program for each, all but the first.
REPEATED = ["jax vmap", "jax 4x2 devices", "jax 3 devices", "tensorflow function"]
ASKED_ONCE = ["torch compiled", "jax jit", "tensorflow xla"]


def compiles(name):
    """Whether a program of many calls takes seconds to make; JAX makes one for each shape and operator."""
    return name not in ("numpy", "torch", "tensorflow", "keras on torch", "keras on tensorflow")
