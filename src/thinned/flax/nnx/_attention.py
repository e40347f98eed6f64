"""This function serves `nnx.MultiHeadAttention` with dropped probabilities."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from thinned.flax._compat import nnx_attention_weights, nnx_promote_dtype
from thinned.flax._mask import attend, check_rate, drop_probabilities, refuse_wrong_shapes
from thinned.jax._types import AnyKey


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: AnyKey | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Any = None,
    precision: Any = None,
    module: nnx.Module | None = None,
    promote_dtype: Any = nnx_promote_dtype,
    is_causal: bool = False,
) -> jax.Array:
    """Equivalent to `flax.nnx.dot_product_attention`: the `attention_fn` of an `nnx.MultiHeadAttention`.

    Args:
        query: (…, q_length, heads, depth).
        key: (…, kv_length, heads, depth), or a divisor of the heads.
        value: (…, kv_length, heads, depth), as key.
        bias: added to the logits; fits (…, heads, q_length, kv_length).
        mask: True where attention is allowed; fits as bias.
        broadcast_dropout: batch and heads share a mask, which is then one of shape (1, …, q_length,
            kv_length).
        dropout_rng: the mask's key: a PRNG key, a `thinned.Key`, or its four words.
        dropout_rate: drop probability in [0, 1].
        deterministic: True evaluates.
        dtype: of the computation; that of the arguments if not given.
        precision: of the products.
        module: where the probabilities are sown.
        promote_dtype: Flax's hook.
        is_causal: a query sees no later key.

    Returns:
        (…, q_length, heads, depth).

    Raises:
        TypeError: `dropout_rate must be a real number, got …`.
        ValueError: `dropout_rate must be in [0, 1], got …`; `dropout_rng is missing: …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Example:
        >>> layer = nnx.MultiHeadAttention(
        ...     2, 8, dropout_rate=0.5, attention_fn=dot_product_attention, decode=False, rngs=nnx.Rngs(0)
        ... )
        >>> layer(jnp.ones((1, 3, 8)), deterministic=False).shape
        (1, 3, 8)
    """
    check_rate(dropout_rate, "dropout_rate")
    common = {
        "bias": bias,
        "mask": mask,
        "deterministic": True,
        "dtype": dtype,
        "precision": precision,
        "module": module,
        "promote_dtype": promote_dtype,
        "is_causal": is_causal,
    }
    if deterministic or dropout_rate == 0:
        whole: jax.Array = nnx.dot_product_attention(query, key, value, dropout_rate=dropout_rate, **common)
        return whole
    query, key, value = promote_dtype((query, key, value), dtype=dtype)
    refuse_wrong_shapes(
        functools.partial(nnx.dot_product_attention, **{**common, "module": None}), query, key, value
    )
    grouped_alike = key.shape[-2] == value.shape[-2]
    if module is None and precision is None and grouped_alike:
        return attend(query, key, value, bias, mask, dropout_rate, dropout_rng, broadcast_dropout, is_causal)
    weights = nnx_attention_weights(query, key, **common)
    weights = drop_probabilities(weights, dropout_rate, dropout_rng, broadcast_dropout)
    groups = weights.shape[-3] // value.shape[-2]  # query heads that share one of value's
    value = value if groups == 1 else jnp.repeat(value, groups, axis=-2)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=precision)
