"""Each family of JAX and Flax under transformations: one mask, of the key that it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_sites import FAMILIES, KEYS, X

import thinned.jax as tj
from thinned.mc.jax._sites import sites


def slope(family, x, key):
    return jax.grad(lambda x: jnp.square(family(x, key)).sum())(x)


# A program of each takes seconds to compile.
@pytest.mark.full
@pytest.mark.parametrize("name", FAMILIES)
def test_one_mask_under_every_transformation(name):
    family = FAMILIES[name]

    def program(x, keys):
        return {
            "jit": family(x, keys[0]),
            "vmap": jax.vmap(family, (None, 0))(x, keys),
            "scan": jax.lax.scan(lambda x, key: (x, family(x, key)), x, keys)[1],
            "grad": slope(family, x, keys[0]),
            "remat": slope(jax.checkpoint(family), x, keys[0]),
        }

    got = jax.jit(program)(X, KEYS)
    each = [np.asarray(family(X, key)) for key in KEYS]
    assert (each[0] != each[1]).any()
    for way, expected in (("jit", each[0]), ("vmap", np.stack(each)), ("scan", np.stack(each))):
        np.testing.assert_allclose(got[way], expected, rtol=2e-5, atol=2e-6, err_msg=way)
        np.testing.assert_array_equal(np.asarray(got[way]) == 0, expected == 0, err_msg=way)
    back = np.asarray(slope(family, X, KEYS[0]))
    for way in ("grad", "remat"):
        np.testing.assert_allclose(got[way], back, rtol=2e-5, atol=2e-6, err_msg=way)


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith(("jax.m", "jax.d")) else pytest.param(name, marks=pytest.mark.full)
        for name in FAMILIES
    ],
)
def test_monte_carlo_finds_the_site_and_its_key(name):
    found = sites(jax.make_jaxpr(FAMILIES[name])(X, KEYS[0]), 1)
    assert found
    assert all(site.keyed for site in found)


def test_constants_inside_a_trace_are_checked_as_outside():
    """An operation of JAX's on a constant is traced there, and its value unknown."""
    edges, rates, ones = jnp.array([[0, 9], [1, 1]]), jnp.array([0.5, 1.5]), jnp.array([0.5, 1.0])
    key, ids = KEYS[0], jnp.array([-1, 0, 1, 2])
    calls = {
        r"nodes must be numbers from 0 to num_nodes - 1 = 8": lambda x: tj.drop_edge(
            edges, 0.5, key=key, training=True, num_nodes=9
        ),
        r"ids must be numbers from 0 on": lambda x: tj.drop_node(
            x, 0.5, key=key, training=True, node_ids=ids
        ),
        r"p must be in \[0, 1\], got 1.5": lambda x: tj.concrete_dropout(
            x[:, :2], rates, key=key, training=True
        ),
        r"p must be in \[0, 1\), got 1": lambda x: tj.variational_dropout(
            x[:, :2], ones, key=key, training=True
        ),
    }
    for message, call in calls.items():
        for run in (call, jax.jit(call)):
            with pytest.raises(ValueError, match=message):
                run(X)
