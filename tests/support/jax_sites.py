"""Public names of JAX, Flax and Equinox as functions of an input and a key."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import thinned.equinox
import thinned.flax.linen
import thinned.flax.nnx
import thinned.jax

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


TOKENS = jnp.arange(1, 61).reshape(3, 20)
EDGES = jnp.arange(40).reshape(2, 20)
on = {"training": True}
tj = thinned.jax
# Verbs that are no product with a mask; a name of a layer is its class's. Functions of X and a key.
FAMILIES = {
    "jax.concrete_dropout": lambda x, key: tj.concrete_dropout(x, P, key=key, **on),
    "jax.cutout": lambda x, key: tj.cutout(x.reshape(2, 3, 4, 1), 2, key=key, **on),
    "jax.drop_edge": lambda x, key: jnp.where(tj.drop_edge(EDGES, P, key=key, **on), x.ravel()[:20], 0),
    "jax.drop_key": lambda x, key: tj.drop_key(x, P, key=key, **on),
    "jax.drop_message": lambda x, key: tj.drop_message(x, P, key=key, edge_ids=jnp.array([7, 1, 0, 4]), **on),
    "jax.drop_node": lambda x, key: tj.drop_node(x, P, key=key, node_ids=jnp.array([7, 1, 0, 4]), **on),
    "jax.mask_spans": lambda x, key: tj.mask_spans(x, 4, 2, -1, key=key, **on),
    "jax.patch_dropout": lambda x, key: tj.patch_dropout(x[..., None], P, key=key, **on),
    "jax.spatial_dropout": lambda x, key: tj.spatial_dropout(x, P, "NF", "F", key=key, **on),
    "jax.variational_dropout": lambda x, key: tj.variational_dropout(x, P, key=key, **on),
    "jax.word_dropout": lambda x, key: x.sum() * tj.word_dropout(TOKENS, P, 0, key=key, **on),
    "nnx.ConcreteDropout": of_nnx(
        thinned.flax.nnx.ConcreteDropout(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), P, samples=9)
    ),
    "nnx.PatchDropout": lambda x, key: of_nnx(thinned.flax.nnx.PatchDropout(P))(x[..., None], key),
    "nnx.SpecAugment": lambda x, key: of_nnx(thinned.flax.nnx.SpecAugment(2, 2))(x[None], key),
    "linen.PatchDropout": lambda x, key: of_linen(thinned.flax.linen.PatchDropout(P), X[..., None])(
        x[..., None], key
    ),
    "linen.SpecAugment": lambda x, key: of_linen(thinned.flax.linen.SpecAugment(2, 2), X[None])(x[None], key),
}


@functools.cache
def eager(name):
    """Operation by operation: the forward pass of each key, and the gradient."""
    site = SITES[name]
    both = [np.asarray(site(X, key)) for key in KEYS]
    return both, np.asarray(jax.vjp(lambda x: site(x, KEYS[0]), X)[1](T)[0])
