"""What Flax counts: a stream's key is drawn once, whatever computes the block again."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax_sites import KEYS, LAYERS, P, T, X, eager, verb

import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
import thinned.jax
from thinned import Key


def test_a_stream_under_nnxs_scan_and_remat():
    class Block(nnx.Module):
        def __init__(self):
            self.drop = thinned.flax.nnx.Dropout(P, rngs=nnx.Rngs(7))

        def __call__(self, x):
            return self.drop(x)

    def steps(run):
        block = Block()

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        def step(block, x):
            return block, run(block, x)

        x = jnp.stack([X, X + 1])
        y = step(block, x)[1]
        return np.asarray(y), int(block.drop.rngs.count[...])

    plain, remat = steps(Block.__call__), steps(nnx.remat(Block.__call__))
    np.testing.assert_array_equal(plain[0], remat[0])
    assert plain[1] == remat[1] == 2
    assert ((plain[0][0] == 0) != (plain[0][1] == 0)).any()


def test_a_stream_under_linens_scan_and_remat():
    class Block(nn.Module):
        remat: bool = False

        @nn.compact
        def __call__(self, x):
            kind = thinned.flax.linen.Dropout
            layer = nn.remat(kind) if self.remat else kind
            return layer(P, deterministic=False, name="drop")(x), None  # keys follow from names

    def made(remat):
        layers = nn.scan(Block, variable_axes={}, split_rngs={"dropout": True}, length=3)(
            remat, name="layers"
        )
        run = jax.jit(lambda x: layers.apply({}, x, rngs={"dropout": KEYS[0]})[0])
        y, back = jax.vjp(run, X)
        return np.asarray(y), np.asarray(back(jnp.ones_like(X))[0])

    (y, gradient), (again, its) = made(False), made(True)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(gradient, its)
    np.testing.assert_array_equal(gradient != 0, y != 0)
    assert (y == 0).any()


def test_equinoxs_own_transformations():
    layer = LAYERS["equinox.Dropout"]
    expected = eager("equinox.Dropout")[0][0]
    for run in (eqx.filter_jit(layer), eqx.filter_checkpoint(layer)):
        np.testing.assert_array_equal(run(X, key=KEYS[0]), expected)
    gradient = eqx.filter_grad(lambda x: (eqx.filter_checkpoint(layer)(x, key=KEYS[0]) * T).sum())(X)
    np.testing.assert_array_equal(gradient, eager("equinox.Dropout")[1])


def test_with_and_without_64_bits():
    reference = thinned.dropout(np.asarray(X), P, key=Key(3), training=True)
    for wide in (False, True):
        with jax.enable_x64(wide):
            np.testing.assert_array_equal(jax.jit(verb)(X, KEYS[0]), reference)


def test_a_callback_beside_it():
    seen = []

    @jax.jit
    def both(x, key):
        y = verb(x, key)
        jax.debug.callback(lambda y: seen.append(np.asarray(y)), y)
        return jax.pure_callback(lambda y: np.asarray(y) * 2, y, y)

    y = both(X, KEYS[0])
    jax.effects_barrier()
    np.testing.assert_array_equal(seen[0], eager("jax.dropout")[0][0])
    np.testing.assert_array_equal(y, 2 * seen[0])
