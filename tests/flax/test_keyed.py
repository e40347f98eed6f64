"""Keyed nnx models, and Flax modules as functions for Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
from thinned.flax.nnx import Dropout, keyed, set_step


def mask(path, step, shape):
    return thinned.keep_mask(shape, 0.5, key=thinned.Key(7).fold(path).fold(step))


def model():
    return keyed(nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), Dropout(0.5)), seed=7)


def test_masks_are_of_path_and_step_also_where_the_step_is_set_in_compiled_code():
    found = model()
    for step in (0, 3):
        out = np.asarray(set_step(found, step)(jnp.ones((2, 4))))
        np.testing.assert_array_equal(out != 0, mask("layers.1", step, (2, 8)))
    traced = []

    @nnx.jit
    def at(model, n):
        traced.append(n)
        return set_step(model, n)(jnp.ones((2, 4)))

    for step in (1, 5):
        np.testing.assert_array_equal(
            np.asarray(at(found, jnp.int32(step))) != 0, mask("layers.1", step, (2, 8))
        )
    assert len(traced) == 1


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.drop = nnx.Linear(4, 4, rngs=rngs), Dropout(0.5)

    def __call__(self, x):
        return self.drop(jnp.ones_like(x))


@pytest.mark.full
def test_layers_under_scan_have_masks_of_their_own():
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def made(rngs):
        return Block(rngs)

    stack = nnx.Dict(blocks=made(nnx.Rngs(0)))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def run(x, block):
        return x, block(x)

    set_step(keyed(stack, 7, stacked={"blocks": 3}), 2)
    _, out = run(jnp.ones((5, 4)), stack["blocks"])
    for layer in range(3):
        key = thinned.Key(7).fold("blocks.drop").fold(layer).fold(2)
        np.testing.assert_array_equal(np.asarray(out[layer]) != 0, thinned.keep_mask((5, 4), 0.5, key=key))


def test_refusals():
    with pytest.raises(ValueError, match="no path of a site begins with"):
        keyed(nnx.Sequential(Dropout(0.5)), 7, stacked={"blocks": 3})
    with pytest.raises(ValueError, match="model has no keyed site"):
        set_step(nnx.Sequential(Dropout(0.5)), 1)
    with pytest.raises(ValueError, match="model has no site"):
        keyed(nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), 7)


@pytest.mark.full
@pytest.mark.parametrize("shared", [False, True])
def test_flax_modules_have_the_samples_of_torch(shared):
    """The same keys: linen, nnx and torch drop the same; products differ by rounding."""
    torch = pytest.importorskip("torch")
    import flax.linen as nn

    from thinned import mc
    from thinned.flax.linen import Dropout as LinenDropout
    from thinned.mc.flax import linen_apply, nnx_apply

    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    weight = np.eye(4, dtype=np.float32)
    theirs = torch.nn.Sequential(
        torch.nn.Dropout(0.2), torch.nn.Linear(4, 4, bias=False), torch.nn.Dropout(0.5)
    )
    theirs[1].weight.data = torch.tensor(weight)
    asked = {"samples": 10, "key": thinned.Key(3), "shared": shared}
    wanted = mc.predict(theirs, torch.tensor(x), **asked).mean
    linen = nn.Sequential(
        [
            LinenDropout(0.2, deterministic=True),
            nn.Dense(4, use_bias=False),
            LinenDropout(0.5, deterministic=True),
        ]
    )
    variables = linen.init(jax.random.key(0), x)
    variables["params"]["layers_1"]["kernel"] = jnp.asarray(weight)
    dense = nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0))
    dense.kernel[...] = jnp.asarray(weight)
    ours = nnx.Sequential(Dropout(0.2), dense, Dropout(0.5))
    for apply in (linen_apply(linen, variables), nnx_apply(ours)):
        np.testing.assert_allclose(mc_jax(apply, x, asked).mean, wanted, rtol=1e-5)
    assert ours.layers[0].deterministic is False


def mc_jax(apply, x, asked):
    from thinned.mc.jax import predict

    return predict(apply, x, **asked)
