"""DropPath, DropConnect and attention's dropout, of nnx and of linen: masks of the verbs below them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import InvalidRngError
from jax_masks import equal, numpys

import thinned
from thinned import Key
from thinned.flax import linen
from thinned.flax import nnx as ours

X = jnp.linspace(1, 2, 4 * 5 * 6).reshape(4, 5, 6)
KEY = jax.random.key(5)


def path_of(library, rate, key=KEY, deterministic=False, **options):
    """DropPath's result, by either library."""
    if library == "nnx":
        return lambda x: ours.DropPath(rate, **options)(x, deterministic=deterministic, key=key)
    return lambda x: linen.DropPath(rate, **options).apply({}, x, deterministic=deterministic, rng=key)


@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_drop_path_decides_for_each_sample(library):
    x = jnp.tile(X, (8, 1, 1))
    assert equal(path_of(library, 0.4)(x), numpys(x, 0.4, KEY, (None, 1, 1)))
    assert equal(path_of(library, 0.4, scale_by_keep=False)(x), numpys(x, 0.4, KEY, (None, 1, 1), "classic"))
    assert equal(path_of(library, 0.4)(x[:, 0, 0]), numpys(x[:, 0, 0], 0.4, KEY))
    for scale in (True, False):
        assert path_of(library, 0.4, deterministic=True, scale_by_keep=scale)(x) is x
    with pytest.raises(ValueError, match=r"DropPath takes \(N, …\), got shape \(\)"):
        path_of(library, 0.4)(jnp.float32(1))
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 2"):
        path_of(library, 2)(x)


def test_drop_path_draws_as_dropout_does():
    layer = ours.DropPath(0.5, rngs=nnx.Rngs(7))
    assert equal(layer(X), numpys(X, 0.5, nnx.Rngs(7)["dropout"].fork()(), (None, 1, 1)))
    assert isinstance(layer, nnx.Dropout)
    layer.eval()
    assert layer(X) is X
    with pytest.raises(ValueError, match="no `rngs` argument was provided to DropPath"):
        ours.DropPath(0.5)(X)
    with pytest.raises(InvalidRngError, match="DropPath has no key"):
        linen.DropPath(0.5, deterministic=False).apply({}, X)
    drawn = linen.DropPath(0.5, deterministic=False).apply({}, X, rngs={"dropout": KEY})
    flat = linen.Dropout(0.5, (1, 2), deterministic=False).apply({}, X, rngs={"dropout": KEY})
    assert equal(drawn, flat)


def test_nnx_drop_connect_drops_the_kernel_and_nothing_else():
    linear = nnx.Linear(6, 3, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    layer = ours.DropConnect(linear, 0.4, rngs=nnx.Rngs(7))
    whole = np.asarray(linear.kernel[...])
    dropped = numpys(whole, 0.4, nnx.Rngs(7)["dropout"].fork()())
    plain = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    plain.kernel[...], plain.bias[...] = jnp.asarray(dropped), linear.bias[...]
    assert equal(layer(X), plain(X))
    assert equal(linear.kernel[...], whole)
    assert layer.layer is linear
    layer.eval()
    assert equal(layer(X), linear(X))
    assert equal(layer.dropout.rngs.count[...], np.uint32(1))


def test_nnx_drop_connects_gradient_is_zero_where_dropped():
    layer = ours.DropConnect(nnx.Linear(6, 3, rngs=nnx.Rngs(0)), 0.5)
    gradient = nnx.jit(nnx.grad(lambda layer, x: layer(x, key=Key(1)).sum()))(layer, X)
    mask = thinned.dropout(np.ones((6, 3), np.float32), 0.5, key=Key(1), training=True)
    expected = np.asarray(X).reshape(-1, 6).sum(0)[:, None] * mask
    np.testing.assert_allclose(gradient["layer"]["kernel"][...], expected, rtol=1e-5)
    assert (np.asarray(gradient["layer"]["kernel"][...])[mask == 0] == 0).all()


def test_nnx_drop_connect_takes_other_layers_and_names():
    conv = ours.DropConnect(nnx.Conv(6, 2, (3,), rngs=nnx.Rngs(0)), 1.0)
    assert not conv(X).any()
    embed = ours.DropConnect(nnx.Embed(5, 4, rngs=nnx.Rngs(0)), 1.0, weight="embedding")
    assert not embed(jnp.arange(5)).any()

    class Nested(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(jnp.ones((6, 3)))
            self.inner = nnx.Linear(6, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            self.seen = True
            return x @ self.kernel + self.inner(x)

    nested = Nested()
    assert equal(ours.DropConnect(nested, 1.0)(X), nested.inner(X))
    assert not hasattr(nested, "seen")  # a copy ran
    ours.DropConnect(nested, 1.0, deterministic=True)(X)
    assert nested.seen
    with pytest.raises(ValueError, match="DropConnect needs a layer with a parameter 'kernel', got Embed"):
        ours.DropConnect(nnx.Embed(5, 4, rngs=nnx.Rngs(0)), 0.5)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got -1"):
        ours.DropConnect(nnx.Linear(6, 3, rngs=nnx.Rngs(0)), -1)


def test_linen_drop_connect_drops_the_kernel_and_nothing_else():
    layer = linen.DropConnect(nn.Dense(3), 0.4, deterministic=False)
    variables = layer.init(jax.random.key(0), X)
    kernel, bias = variables["params"]["layer"]["kernel"], variables["params"]["layer"]["bias"]
    reference = nn.Dense(3).init(jax.random.key(0), X)["params"]
    assert jax.tree.map(jnp.shape, variables["params"]["layer"]) == jax.tree.map(jnp.shape, reference)
    assert (kernel != 0).all()
    dropped = numpys(kernel, 0.4, KEY)
    expected = nn.Dense(3).apply({"params": {"kernel": dropped, "bias": bias}}, X)
    assert equal(layer.apply(variables, X, rng=KEY), expected)
    whole = nn.Dense(3).apply({"params": variables["params"]["layer"]}, X)
    assert equal(linen.DropConnect(nn.Dense(3), 0.4, deterministic=True).apply(variables, X), whole)


def test_linen_drop_connects_keys_and_gradients():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = linen.DropConnect(nn.Dense(3, use_bias=False), 0.5, deterministic=False)
            return layer(x), layer(x)

    variables = Net().init(jax.random.key(0), X)
    first, second = jax.jit(Net().apply)(variables, X, rngs={"dropout": KEY})
    assert not equal(first, second)
    gradient = jax.grad(lambda v: Net().apply(v, X, rngs={"dropout": KEY})[0].sum())(variables)
    (leaf,) = jax.tree.leaves(gradient)
    scale = np.asarray(X).reshape(-1, 6).sum(0)[:, None]
    assert set(np.unique(np.round(np.asarray(leaf) / scale, 4))) == {0, 2}
    with pytest.raises(InvalidRngError, match="DropConnect has no key"):
        Net().apply(variables, X)
    bare = linen.DropConnect(nn.Embed(5, 4), 0.5, deterministic=False)
    with pytest.raises(ValueError, match="DropConnect needs a layer with a parameter 'kernel', got Embed"):
        bare.apply(bare.init(jax.random.key(0), jnp.arange(5)), jnp.arange(5), rng=KEY)


ATTENTIONS = {
    "nnx": (nnx.dot_product_attention, ours.dot_product_attention),
    "linen": (nn.dot_product_attention, linen.dot_product_attention),
}


def attention_inputs(kv_heads=4, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = ((2, 5, 4, 8), (2, 7, kv_heads, 8), (2, 7, kv_heads, 8))
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def by_hand(query, key, value, noise, rate):
    """The definition, in NumPy."""
    query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
    logits = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", numpys(weights, rate, KEY, noise), value)


@pytest.mark.parametrize("library", ATTENTIONS)
@pytest.mark.parametrize("broadcast", [True, False])
def test_attention_drops_probabilities(library, broadcast):
    arrays = attention_inputs()
    _, attention = ATTENTIONS[library]
    got = attention(*arrays, broadcast_dropout=broadcast, dropout_rng=KEY, dropout_rate=0.4)
    expected = by_hand(*arrays, (1, 1, None, None) if broadcast else None, 0.4)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("library", ATTENTIONS)
def test_attention_without_dropout_is_flaxs(library):
    arrays = attention_inputs()
    flaxs, attention = ATTENTIONS[library]
    mask = jnp.tril(jnp.ones((5, 7), bool))
    for options in ({"dropout_rate": 0.4, "deterministic": True}, {"dropout_rate": 0.0}, {}):
        assert equal(attention(*arrays, mask=mask, **options), flaxs(*arrays, mask=mask, **options))


WRONG_SHAPES = {  # of query, key and value
    "value's batch": ((2, 5, 4, 8), (2, 7, 4, 8), (1, 7, 4, 8)),
    "value's length": ((2, 5, 4, 8), (2, 7, 4, 8), (2, 6, 4, 8)),
    "key's batch": ((2, 5, 4, 8), (1, 7, 4, 8), (2, 7, 4, 8)),
    "depth": ((2, 5, 4, 8), (2, 7, 4, 6), (2, 7, 4, 8)),
    "rank": ((2, 5, 4, 8), (7, 4, 8), (7, 4, 8)),
    "heads": ((2, 5, 4, 8), (2, 7, 3, 8), (2, 7, 3, 8)),
}


@pytest.mark.parametrize("library", ATTENTIONS)
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_attention_refuses_what_flax_refuses_in_its_words(library, wrong):
    arrays = [jnp.ones(shape) for shape in WRONG_SHAPES[wrong]]
    said = []
    for attention in ATTENTIONS[library]:
        with pytest.raises((ValueError, AssertionError, TypeError)) as error:
            attention(*arrays, dropout_rng=KEY, dropout_rate=0.5)
        said.append((error.type, str(error.value)))
    assert said[0] == said[1]


@pytest.mark.parametrize("library", ATTENTIONS)
def test_attentions_errors(library):
    arrays = attention_inputs()
    _, attention = ATTENTIONS[library]
    with pytest.raises(ValueError, match="dropout_rng is missing: pass a PRNG key"):
        attention(*arrays, dropout_rate=0.5)
    with pytest.raises(ValueError, match=r"dropout_rate must be in \[0, 1\], got 1.5"):
        attention(*arrays, dropout_rate=1.5, deterministic=True)


def test_grouped_and_causal_attention_of_nnx():
    query, key, value = attention_inputs(kv_heads=2)
    got = ours.dot_product_attention(query, key, value, dropout_rng=KEY, dropout_rate=0.4)
    wide = [jnp.repeat(a, 2, axis=-2) for a in (key, value)]
    np.testing.assert_allclose(got, by_hand(query, *wide, (1, 1, None, None), 0.4), atol=1e-5)
    causal = ours.dot_product_attention(
        query, key, value, dropout_rng=KEY, dropout_rate=0.4, is_causal=True, module=None
    )
    changed = ours.dot_product_attention(
        query, key.at[:, 3:].add(1), value, dropout_rng=KEY, dropout_rate=0.4, is_causal=True
    )
    assert equal(causal[:, :3], changed[:, :3])
    assert not equal(causal[:, 3:], changed[:, 3:])


def test_in_nnxs_multi_head_attention(monkeypatch):
    monkeypatch.setattr(jax.random, "bernoulli", None)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)

    def layer(rate):
        return nnx.MultiHeadAttention(
            2, 8, dropout_rate=rate, attention_fn=ours.dot_product_attention, decode=False, rngs=nnx.Rngs(3)
        )

    drops = layer(0.5)
    drops.train()
    first, second = drops(x), drops(x)
    assert not equal(first, second)
    assert equal(first, layer(0.5)(x, deterministic=False))
    drops.eval()
    np.testing.assert_allclose(drops(x), layer(0.0)(x), atol=1e-6)
    assert not nnx.MultiHeadAttention(
        2, 8, dropout_rate=1.0, attention_fn=ours.dot_product_attention, decode=False, rngs=nnx.Rngs(3)
    )(x, deterministic=False).any()


def test_in_linens_multi_head_attention(monkeypatch):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
    layer = nn.MultiHeadAttention(2, dropout_rate=0.5, attention_fn=linen.dot_product_attention)
    variables = layer.init(jax.random.key(0), x, deterministic=True)
    monkeypatch.setattr(jax.random, "bernoulli", None)
    drawn = layer.apply(variables, x, deterministic=False, rngs={"dropout": KEY}, sow_weights=True)
    again = jax.jit(lambda x: layer.apply(variables, x, deterministic=False, rngs={"dropout": KEY}))(x)
    np.testing.assert_allclose(drawn, again, atol=1e-6)
    exact = layer.apply(variables, x, deterministic=False, dropout_rng=Key(1))
    assert not equal(drawn, exact)
    assert equal(exact, layer.apply(variables, x, deterministic=False, dropout_rng=Key(1)))
