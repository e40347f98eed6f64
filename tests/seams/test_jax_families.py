"""Each family of JAX and Flax under transformations: one mask, of the key that it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_sites import FAMILIES, KEYS, X

from thinned.mc.jax._sites import sites

# Every one has the one primitive, or dropout's: what JAX does with either, the quick tier has of these.
QUICK = ("jax.mask_spans", "jax.concrete_dropout")
every = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES]
)


def slope(family, x, key):
    return jax.grad(lambda x: jnp.square(family(x, key)).sum())(x)


@every
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
