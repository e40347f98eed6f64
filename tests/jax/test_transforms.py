"""JAX's transformations: to each example the mask of its key, backward the forward's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.jet import jet

import thinned
from thinned import Key
from thinned.jax import _key, dropout, fold, keep_mask

X = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
KEYS = np.stack([_key.words(Key(5, i)) for i in range(len(X))])
P = 0.3
KEY = Key(5, 6)


def thin(x, key=KEY):
    return dropout(x, P, key=key, training=True)


def reference(x, key=KEY):
    return thinned.dropout(np.asarray(x), P, key=key, training=True)


def test_vmap_over_keys():
    rows = jax.vmap(thin)(X, KEYS)
    np.testing.assert_array_equal(rows, np.stack([reference(x, Key(5, i)) for i, x in enumerate(X)]))
    np.testing.assert_array_equal(jax.jit(jax.vmap(thin))(X, KEYS), rows)


def test_vmap_over_random_keys():
    keys = jax.random.split(jax.random.key(1), len(X))
    exact = [Key(int(high) << 32 | int(low)) for high, low in np.asarray(jax.random.key_data(keys))]
    rows = jax.vmap(thin)(X, keys)
    np.testing.assert_array_equal(rows, np.stack([reference(x, k) for x, k in zip(X, exact, strict=True)]))


def test_vmap_with_one_key_shares_the_mask():
    np.testing.assert_array_equal(jax.vmap(thin)(X), np.stack([reference(x) for x in X]))


def test_vmap_of_one_input_over_keys_and_axes():
    np.testing.assert_array_equal(
        jax.vmap(thin, in_axes=(None, 0), out_axes=1)(X[0], KEYS),
        np.stack([reference(X[0], Key(5, i)) for i in range(len(X))], axis=1),
    )
    np.testing.assert_array_equal(
        jax.vmap(thin, in_axes=(1, None), out_axes=1)(X, KEYS[2]),
        np.stack([reference(x, Key(5, 2)) for x in X.T], axis=1),
    )


def test_vmap_twice_and_over_p():
    def row(x, key, p):
        return dropout(x, p, key=key, training=True)

    rates = np.array([0.0, 0.2, 0.5, 1.0], np.float32)
    grid = jax.vmap(jax.vmap(row, in_axes=(None, None, 0)), in_axes=(0, 0, None))(X, KEYS, rates)
    for i, x in enumerate(X):
        for j, p in enumerate(rates):
            np.testing.assert_array_equal(
                grid[i, j], thinned.dropout(x, float(p), key=Key(5, i), training=True)
            )


def test_vmap_of_a_mask():
    masks = jax.vmap(lambda key: keep_mask((7, 3), P, key=key))(KEYS)
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(mask, thinned.keep_mask((7, 3), P, key=Key(5, i)))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "remat"])
def test_backward_has_the_forwards_mask(wrap):
    y, back = jax.vjp(wrap(thin), X)
    np.testing.assert_array_equal(y, reference(X))
    upstream = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
    np.testing.assert_array_equal(back(upstream)[0], reference(upstream))
    gradient = back(np.full_like(X, np.nan))[0]
    assert not np.asarray(gradient)[np.asarray(y) == 0].any()


def test_nothing_of_xs_size_is_kept():
    _, back = jax.vjp(thin, jnp.ones((512, 512)))
    kept = [leaf.size for leaf in jax.tree.leaves(back) if hasattr(leaf, "size")]
    assert sum(kept) < 64


def test_derivatives_forward_and_second():
    tangent = X[::-1].copy()
    np.testing.assert_array_equal(jax.jvp(thin, (X,), (tangent,))[1], reference(tangent))
    hessian = jax.hessian(lambda x: (thin(x) ** 2).sum())(X[0])
    scale = np.float32(thinned.scale(P))
    kept = np.where(reference(np.ones_like(X[0])) > 0, 2 * scale * scale, 0)
    np.testing.assert_allclose(hessian, np.diag(kept), rtol=1e-6)
    np.testing.assert_array_equal(jax.jacfwd(thin)(X[0]), jax.jacrev(thin)(X[0]))
    np.testing.assert_array_equal(
        jax.vmap(jax.grad(lambda x, key: thin(x, key).sum()))(X, KEYS),
        np.stack([reference(np.ones_like(x), Key(5, i)) for i, x in enumerate(X)]),
    )


def test_scan_folds_the_step():
    def step(x, i):
        return dropout(x, 0.1, key=fold(Key(5), i), training=True), None

    y, _ = jax.lax.scan(jax.checkpoint(step), X, jnp.arange(4))
    expected = X
    for i in range(4):
        expected = thinned.dropout(expected, 0.1, key=Key(5).fold(i), training=True)
    np.testing.assert_array_equal(y, expected)
    gradient = jax.grad(lambda x: jax.lax.scan(jax.checkpoint(step), x, jnp.arange(4))[0].sum())(X)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, expected != 0)


def test_cond_and_while():
    y = jax.jit(lambda x, on: jax.lax.cond(on, thin, lambda x: x, x))(X, True)
    np.testing.assert_array_equal(y, reference(X))
    y = jax.lax.fori_loop(0, 3, lambda i, x: thin(x, fold(Key(5), i)), X)
    expected = X
    for i in range(3):
        expected = reference(expected, Key(5).fold(i))
    np.testing.assert_array_equal(y, expected)


def test_donated_input():
    x = jnp.asarray(X)
    np.testing.assert_array_equal(jax.jit(thin, donate_argnums=0)(x), reference(X))


@pytest.mark.parametrize(
    "platforms",
    [None, pytest.param(["cpu"], marks=pytest.mark.full), ["tpu", "cuda"], ["cpu", "cuda"]],
    ids=str,
)
def test_an_exported_program_needs_nothing_of_ours(platforms):
    exported = jax.export.export(jax.jit(thin), platforms=platforms)(X)
    assert "custom_call @thinned" not in exported.mlir_module()
    if platforms is None or "cpu" in platforms:
        again = jax.export.deserialize(exported.serialize(vjp_order=1))
        np.testing.assert_array_equal(again.call(X), reference(X))
        gradient = jax.grad(lambda x: again.call(x).sum())(X)
        np.testing.assert_array_equal(gradient, reference(np.ones_like(X)))


@pytest.mark.covering(strength=1)  # names are sizes of a position, whether it is shared or not
@pytest.mark.parametrize("names", ["b, 40", "b, c", "6, c"])
@pytest.mark.parametrize("noise_shape", [None, (None, 1)], ids=str)
def test_export_with_dimensions_that_have_names(names, noise_shape):
    shape = jax.export.symbolic_shape(names)

    def both(x):
        y = dropout(x, P, key=KEY, training=True, noise_shape=noise_shape)
        return y, keep_mask(x.shape, P, key=KEY)

    exported = jax.export.export(jax.jit(both))(jax.ShapeDtypeStruct(shape, np.float32))
    y, mask = exported.call(X)
    np.testing.assert_array_equal(y, thinned.dropout(X, P, key=KEY, training=True, noise_shape=noise_shape))
    np.testing.assert_array_equal(mask, thinned.keep_mask(X.shape, P, key=KEY))


def test_jit_switched_off():
    with jax.disable_jit():
        np.testing.assert_array_equal(thin(X), reference(X))
        np.testing.assert_array_equal(jax.jit(jax.vmap(thin))(X, KEYS)[2], reference(X[2], Key(5, 2)))
        np.testing.assert_array_equal(jax.grad(lambda x: thin(x).sum())(X), reference(np.ones_like(X)))
        np.testing.assert_array_equal(
            keep_mask((6, 40), P, key=fold(KEY, 3)), thinned.keep_mask((6, 40), P, key=KEY.fold(3))
        )


def test_taylor_mode():
    terms = [X[::-1].copy(), X * 2]
    y, series = jet(lambda x: thin(x) ** 2, (X,), (terms,))
    np.testing.assert_array_equal(y, reference(X) ** 2)
    first, second = map(reference, terms)
    np.testing.assert_allclose(series[0], 2 * reference(X) * first, rtol=1e-6)
    np.testing.assert_allclose(series[1], 2 * (first**2 + reference(X) * second), rtol=1e-6)


def test_eval_is_the_input_itself():
    x = jnp.asarray(X)
    assert dropout(x, 0.5, key=Key(1), training=False) is x
    program = jax.jit(lambda x: dropout(x, 0.5, key=Key(1), training=False))
    assert "custom" not in program.lower(x).compile().as_text()
