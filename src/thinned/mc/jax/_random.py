"""This library's keys become keys of `jax.random` here."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from thinned.jax import _key


def random_key(key: Any) -> jax.Array:
    """Make a jax PRNG key of a key: for modules that split and fold keys in their own way.

    Args:
        key: the words that `predict` gives, uint32 of shape (4,), traced or not; or a `thinned.Key`.

    Returns:
        A typed key of `jax.random`'s default implementation. Its seed is the key's stream, which differs from
        sample to sample and input to input; the key's seed, by which the stream was folded, is not in it.

    Raises:
        TypeError: `key must be a key, got …`.
        ValueError: `key must be one key, got …`.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> from thinned import Key
        >>> jax.random.bernoulli(random_key(Key(0).fold(1))).shape
        ()
    """
    words = jnp.asarray(_key.words(key))
    seed = jnp.stack([words[3], words[2]])
    width = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape[-1]
    wrapped: jax.Array = jax.random.wrap_key_data(jnp.tile(seed, width // 2))
    return wrapped
