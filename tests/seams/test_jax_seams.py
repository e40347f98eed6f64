"""Every verb and layer on JAX under every transformation: what is drawn is the same, forward and backward.

A site is listed once in `SITES`, as a pure function of x and a PRNG key; a test holds that all public names
are. All that is compiled of a site is one program, of which each seam is an output, and its export.
"""

import copy
import functools
import pickle

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.jet import jet

import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
import thinned.jax
from thinned import Key

X = jnp.linspace(0.5, 2.0, 24, dtype=jnp.float32).reshape(4, 6)
T = jnp.linspace(-1.0, 1.0, 24, dtype=jnp.float32).reshape(4, 6)
KEYS = jnp.stack([jax.random.PRNGKey(3), jax.random.PRNGKey(4)])
P = 0.5
ours = {"nnx": thinned.flax.nnx, "linen": thinned.flax.linen}


def verb(x, key):
    return thinned.jax.dropout(x, P, key=key, training=True)


def mask(x, key):
    return jnp.where(thinned.jax.keep_mask(x.shape, P, key=key), x, 0)


def folded(x, key):
    return thinned.jax.dropout(x, P, key=thinned.jax.fold(key, 3), training=True)


def of_nnx(layer):
    return lambda x, key: layer(x, rngs=jax.random.wrap_key_data(key))


def of_linen(layer, like=X):
    made = layer.init({"params": jax.random.key(0)}, like, deterministic=True)
    return lambda x, key: layer.apply(made, x, deterministic=False, rngs={"dropout": key})


def attention(library, x, key):
    heads = x.reshape(1, 4, 2, 3)
    drawn = ours[library].dot_product_attention(heads, heads, heads, dropout_rng=key, dropout_rate=P)
    return drawn.reshape(4, 6)


def attention_of_heads(x, key):
    heads = x.reshape(1, 4, 2, 3)
    drawn = thinned.jax.dot_product_attention(
        heads, heads, heads, dropout_key=key, dropout_p=P, training=True
    )
    return drawn.reshape(4, 6)


LAYERS = {  # made once; deepcopy and pickle are asked of them
    "nnx.Dropout": thinned.flax.nnx.Dropout(P),
    "nnx.DropPath": thinned.flax.nnx.DropPath(P),
    "nnx.DropConnect": thinned.flax.nnx.DropConnect(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), P),
    "linen.Dropout": thinned.flax.linen.Dropout(P),
    "linen.DropPath": thinned.flax.linen.DropPath(P),
    "linen.DropConnect": thinned.flax.linen.DropConnect(nn.Dense(6, kernel_init=nn.initializers.ones), P),
    "equinox.Dropout": thinned.equinox.Dropout(P),
}


def called(name, layer):
    if name.startswith("equinox"):
        return lambda x, key: layer(x, key=key)
    return of_nnx(layer) if name.startswith("nnx") else of_linen(layer)


SITES = {
    "jax.dropout": verb,
    "jax.dot_product_attention": attention_of_heads,
    "jax.keep_mask": mask,
    "jax.fold": folded,
    **{name: called(name, layer) for name, layer in LAYERS.items()},
    "nnx.dot_product_attention": functools.partial(attention, "nnx"),
    "linen.dot_product_attention": functools.partial(attention, "linen"),
}
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
    tools = {"equinox.nn", "linen.audit"}
    assert public - tools == set(SITES)
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


@functools.cache
def eager(name):
    """Operation by operation: the forward pass of each key, and the gradient."""
    site = SITES[name]
    both = [np.asarray(site(X, key)) for key in KEYS]
    return both, np.asarray(jax.vjp(lambda x: site(x, KEYS[0]), X)[1](T)[0])


def assert_same(name, got, expected):
    if name in ROUNDED:
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
        assert ((np.asarray(got) == 0) == (np.asarray(expected) == 0)).all()
    else:
        np.testing.assert_array_equal(got, expected)


every_site = pytest.mark.parametrize("name", SITES)


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


@pytest.mark.parametrize("name", sorted(set(SITES) - CURVED))
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


@every_site
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


# What Flax counts: a stream's key is drawn once, whatever computes the block again.


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
