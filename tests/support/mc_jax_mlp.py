"""An MLP as a JAX function, and its samples by NumPy."""

import jax
import numpy as np

import thinned
import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
from thinned import Key
from thinned.jax import dropout, fold
from thinned.mc.jax import predict

KEY = Key(2**63 + 5, 9)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 8)).astype("float32")
FIRST, SECOND = (RNG.normal(size=size).astype("float32") / 3 for size in ((8, 16), (16, 4)))
RATES = (0.2, 0.5)


def mlp(x, key, first=FIRST, second=SECOND):
    h = dropout(x, RATES[0], key=fold(key, 0), training=True) @ first
    return dropout(jax.nn.relu(h), RATES[1], key=fold(key, 1), training=True) @ second


def by_numpy(samples, shared=False, inputs=20):
    def one(k, i):
        key = KEY.fold(k) if shared else KEY.fold(k).fold(i)
        h = thinned.dropout(X[i : i + 1], RATES[0], key=key.fold(0), training=True) @ FIRST
        return (thinned.dropout(np.maximum(h, 0), RATES[1], key=key.fold(1), training=True) @ SECOND)[0]

    return np.stack([[one(k, i) for i in range(inputs)] for k in range(samples)])


def draws(apply, x=X, **options):
    options = {"samples": 12, "key": KEY, "keep": True, **options}
    return predict(apply, x, **options).draws
