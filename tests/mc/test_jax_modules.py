"""Monte Carlo prediction of Flax's and Equinox's modules."""

import itertools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from mc_jax_mlp import FIRST, RATES, SECOND, X, by_numpy, draws

import thinned
import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
from thinned.jax import fold
from thinned.mc.jax import random_key


class Linen(nn.Module):
    """An MLP as Flax users write it."""

    @nn.compact
    def __call__(self, x, deterministic=True):
        x = thinned.flax.linen.Dropout(RATES[0])(x, deterministic=deterministic)
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(16, use_bias=False, name="first")(x))
        x = thinned.flax.linen.Dropout(RATES[1])(nn.relu(x), deterministic=deterministic)
        return nn.Dense(4, use_bias=False, name="second")(x)


def linen():
    model = Linen()
    variables = model.init(jax.random.key(0), X[:1])
    parameters = {**variables["params"], "first": {"kernel": FIRST}, "second": {"kernel": SECOND}}
    statistics = jax.tree.map(lambda a: a, variables["batch_stats"])
    scale = parameters["BatchNorm_0"]["scale"] * np.sqrt(1 + 1e-5)  # takes back what is added to the variance
    parameters["BatchNorm_0"] = {**parameters["BatchNorm_0"], "scale": scale}
    return model, {"params": parameters, "batch_stats": statistics}


def test_linen_with_keys_of_sites():
    """The recipe of docs/mc/jax.md: an interceptor numbers the calls, whatever the model passes on."""
    model, variables = linen()

    def apply(x, key):
        sites = itertools.count()

        def keyed(call, args, kwargs, context):
            if isinstance(context.module, thinned.flax.linen.Dropout) and context.module.rate:
                return call(*args, **{**kwargs, "deterministic": False, "rng": fold(key, next(sites))})
            return call(*args, **kwargs)

        with nn.intercept_methods(keyed):
            return model.apply(variables, x)

    np.testing.assert_allclose(draws(apply), by_numpy(12), atol=1e-5)


def test_linen_with_keys_that_flax_folds():
    model, variables = linen()

    def apply(x, key):
        return model.apply(variables, x, deterministic=False, rngs={"dropout": random_key(key)})

    found = draws(apply)
    assert found.std(axis=0).all()
    assert not np.allclose(found, by_numpy(12))
    np.testing.assert_allclose(draws(apply, batch_size=7, memory=3_000), found, atol=1e-6)


class Nnx(nnx.Module):
    """An MLP with its keys handed on."""

    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, epsilon=0.0, rngs=rngs)
        self.second = nnx.Linear(16, 4, use_bias=False, rngs=rngs)
        self.drops = nnx.List([thinned.flax.nnx.Dropout(p, rngs=rngs) for p in RATES])
        self.first.kernel[...], self.second.kernel[...] = jnp.asarray(FIRST), jnp.asarray(SECOND)

    def __call__(self, x, keys=(None, None)):
        x = self.norm(self.first(self.drops[0](x, key=keys[0])))
        return self.second(self.drops[1](nnx.relu(x), key=keys[1]))


def test_nnx():
    """Its layers take an exact key, or draw from Rngs, which are made anew for every sample."""
    model = Nnx(nnx.Rngs(0))
    model.eval()
    definition, state = nnx.split(model)

    def training_dropout():
        copy = nnx.merge(definition, state)
        copy.set_attributes(thinned.flax.nnx.Dropout, deterministic=False)
        return copy

    def keyed(x, key):
        return training_dropout()(x, (fold(key, 0), fold(key, 1)))

    def folded(x, key):
        copy = training_dropout()
        for layer in copy.drops:
            layer.rngs = None
        rngs = nnx.Rngs(dropout=random_key(key))
        for layer in copy.drops:
            layer.rngs = rngs.dropout.fork()
        return copy(x)

    kept = nnx.Any(nnx.Param, nnx.BatchStat)
    before = jax.tree.map(np.asarray, nnx.state(model, kept))
    np.testing.assert_allclose(draws(keyed), by_numpy(12), atol=1e-5)
    found = draws(folded)
    assert found.std(axis=0).all()
    np.testing.assert_allclose(draws(folded, batch_size=7, memory=3_000), found, atol=1e-6)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, nnx.state(model, kept)))


class Equinox(eqx.Module):
    """An MLP of one example, as Equinox has it."""

    first: jax.Array
    second: jax.Array
    drops: list

    def __call__(self, x, keys):
        x = self.drops[0](x, key=keys[0]) @ self.first
        return self.drops[1](jax.nn.relu(x), key=keys[1]) @ self.second


def test_equinox():
    model = Equinox(jnp.asarray(FIRST), jnp.asarray(SECOND), [thinned.equinox.nn.Dropout(p) for p in RATES])

    def keyed(x, key):
        return model(x[0], (fold(key, 0), fold(key, 1)))[None]

    def split(x, key):
        return model(x[0], jax.random.split(random_key(key)))[None]

    np.testing.assert_allclose(draws(keyed), by_numpy(12), atol=1e-5)
    assert draws(split).std(axis=0).all()
