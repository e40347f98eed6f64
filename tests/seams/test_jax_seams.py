"""Each public name of JAX, Flax and Equinox where it meets other people's code."""

import copy
import functools
import pickle

import jax
import numpy as np
import pytest
from jax.experimental.jet import jet
from jax_sites import FAMILIES, KEYS, LAYERS, SITES, T, X, called, eager

import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
import thinned.jax

# Products of matrices are rounded as a compiler likes; all else is equal to the bit.
ROUNDED = {name for name in SITES if "DropConnect" in name or "attention" in name}
# Not linear in x.
CURVED = {name for name in SITES if "attention" in name}


def test_every_public_name_is_a_site():
    homes = {
        "jax": thinned.jax,
        "nnx": thinned.flax.nnx,
        "linen": thinned.flax.linen,
        "equinox": thinned.equinox,
    }
    public = {f"{home}.{name}" for home, module in homes.items() for name in module.__all__}
    tools = {"equinox.nn", "linen.audit", "nnx.keyed", "nnx.set_step"}
    tools |= {
        "jax.kept_units",
        "jax.thin_dense",
    }  # of smaller shapes: jax/test_thin.py has their transformations
    assert public - tools == set(SITES) | set(FAMILIES)
    assert set(thinned.equinox.nn.__all__) == set(thinned.equinox.__all__) - {"nn"}


def loss(site):
    """Of which a gradient tells the mask, also where the output's mask is lost in a sum."""
    return lambda x, key: (site(x, key) * T).sum()


def seams(site, x, keys):
    """Everything that one program says of a site."""
    key, one = keys[0], loss(site)
    policy = jax.checkpoint_policies.everything_saveable
    y, series = (
        jet(lambda x: site(x, key), (x,), ((T, 0 * T),)) if site not in map(SITES.get, CURVED) else (0, 0)
    )

    def scanned(wrap):
        def step(x, key):
            return x, wrap(site)(x, key)

        return jax.lax.scan(step, x, keys)[1]

    @jax.custom_vjp
    def custom(x, key):
        return site(x, key)

    custom.defvjp(lambda x, key: jax.vjp(lambda x: site(x, key), x), lambda back, g: (*back(g), None))
    return {
        "jit": site(x, key),
        "vmap": jax.vmap(site, (None, 0))(x, keys),
        "scan": scanned(lambda f: f),
        "scan of remat": scanned(jax.checkpoint),
        "cond": jax.lax.cond(key[1] > 0, site, lambda x, key: x, x, key),
        "grad": jax.grad(one)(x, key),
        "grad of vmap": jax.grad(lambda x: jax.vmap(one, (None, 0))(x, keys).sum())(x),
        "remat": jax.grad(jax.checkpoint(one))(x, key),
        "remat by a policy": jax.grad(jax.checkpoint(one, policy=policy))(x, key),
        "grad of scanned remat": jax.grad(lambda x: (scanned2(site, x, keys) * T).sum())(x),
        "custom_vjp": jax.grad(loss(custom))(x, key),
        "jvp": jax.jvp(lambda x: site(x, key), (x,), (T,))[1],
        "linearize": jax.linearize(lambda x: site(x, key), x)[1](T),
        "jet": (y, series),
    }


def scanned2(site, x, keys):
    return jax.lax.scan(lambda x, key: (jax.checkpoint(site)(x, key), None), x, keys)[0]


@functools.cache
def program(name):
    return jax.jit(functools.partial(seams, SITES[name]))(X, KEYS)


def assert_same(name, got, expected):
    if name in ROUNDED:
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
        assert ((np.asarray(got) == 0) == (np.asarray(expected) == 0)).all()
    else:
        np.testing.assert_array_equal(got, expected)


# Of each of these another library's layer has the same code, or JAX's own verb: its program takes seconds.
ALIKE = (
    *("nnx.DropPath", "linen.Dropout", "linen.DropConnect"),
    *("nnx.dot_product_attention", "linen.dot_product_attention"),
)
every_site = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full) if name in ALIKE else name for name in SITES]
)
# What is exported is the lowering of a primitive, which one site of each has.
EXPORTED = ("jax.dropout", "jax.keep_mask", "jax.dot_product_attention", "nnx.DropConnect")


@every_site
def test_two_keys_draw_two_masks(name):
    """Or nothing below could fail."""
    first, second = eager(name)[0]
    assert (first != second).any()


@every_site
@pytest.mark.parametrize("seam", ["jit", "cond"])
def test_forward(name, seam):
    assert_same(name, program(name)[seam], eager(name)[0][0])


@every_site
@pytest.mark.parametrize("seam", ["vmap", "scan", "scan of remat"])
def test_a_key_for_each(name, seam):
    assert_same(name, program(name)[seam], np.stack(eager(name)[0]))


@every_site
@pytest.mark.parametrize("seam", ["grad", "remat", "remat by a policy", "custom_vjp"])
def test_backward_has_the_forwards_mask(name, seam):
    assert_same(name, program(name)[seam], eager(name)[1])


@every_site
def test_gradients_of_many(name):
    site = SITES[name]
    each = sum(np.asarray(jax.vjp(lambda x, k=key: site(x, k), X)[1](T)[0]) for key in KEYS)
    np.testing.assert_allclose(program(name)["grad of vmap"], each, rtol=2e-5, atol=2e-6)
    through = site(site(X, KEYS[0]), KEYS[1])
    kept = np.asarray(through) != 0
    if name not in ROUNDED:
        np.testing.assert_array_equal(
            np.asarray(program(name)["grad of scanned remat"]) != 0, kept & (T != 0)
        )


@every_site
@pytest.mark.parametrize("seam", ["jvp", "linearize"])
def test_tangents(name, seam):
    if name in CURVED:
        first, second = program(name)["jvp"], program(name)["linearize"]
        np.testing.assert_allclose(first, second, rtol=2e-5, atol=2e-6)
    elif "DropConnect" in name:
        slope = np.asarray(SITES[name](T, KEYS[0])) - np.asarray(SITES[name](0 * T, KEYS[0]))
        np.testing.assert_allclose(program(name)[seam], slope, rtol=2e-5, atol=2e-6)
    else:
        assert_same(name, program(name)[seam], SITES[name](T, KEYS[0]))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.full) if name in ALIKE else name
        for name in SITES
        if name not in CURVED
    ],
)
def test_taylor_mode(name):
    y, (first, second) = program(name)["jet"]
    assert_same(name, y, eager(name)[0][0])
    assert_same(name, first, program(name)["jvp"])
    assert not np.asarray(second).any()


@every_site
def test_shapes_without_computing(name):
    """`eval_shape`, of arguments that have no values."""
    like = jax.eval_shape(SITES[name], jax.ShapeDtypeStruct((4, 6), X.dtype), KEYS[0])
    assert (like.shape, like.dtype) == (X.shape, X.dtype)


@every_site
def test_jit_switched_off(name):
    with jax.disable_jit():
        assert_same(name, jax.jit(SITES[name])(X, KEYS[0]), eager(name)[0][0])


@pytest.mark.parametrize(
    "name", [name if name in EXPORTED else pytest.param(name, marks=pytest.mark.full) for name in SITES]
)
def test_export_and_reload(name):
    """For two platforms; what is loaded needs nothing of this library."""
    exported = jax.export.export(jax.jit(SITES[name]), platforms=["cpu", "cuda"])(X, KEYS[0])
    assert "thinned_" not in "".join(
        line for line in exported.mlir_module().splitlines() if "custom_call" in line
    )
    again = jax.export.deserialize(exported.serialize())
    assert_same(name, again.call(X, KEYS[0]), eager(name)[0][0])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"]
)
def test_a_copy_draws_the_same(name, again):
    layer = again(LAYERS[name])
    assert type(layer) is type(LAYERS[name])
    assert_same(name, called(name, layer)(X, KEYS[0]), eager(name)[0][0])
