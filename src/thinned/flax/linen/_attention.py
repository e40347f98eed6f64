"""These functions serve linen's attention modules with dropped probabilities."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from thinned.flax._compat import linen_promote_dtype
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
    module: nn.Module | None = None,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Any = None,
    qk_attn_weights_einsum: Any = None,
    attn_weights_value_einsum: Any = None,
) -> jax.Array:
    """Equivalent to `flax.linen.dot_product_attention`: the `attention_fn` of its attention modules.

    Args:
        query: (…, q_length, heads, depth).
        key: (…, kv_length, heads, depth).
        value: (…, kv_length, heads, depth).
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
        force_fp32_for_softmax: Flax's.
        einsum_dot_general: Flax's hook.
        qk_attn_weights_einsum: Flax's hook.
        attn_weights_value_einsum: Flax's hook.

    Returns:
        (…, q_length, heads, depth).

    Raises:
        TypeError: `dropout_rate must be a real number, got …`.
        ValueError: `dropout_rate must be in [0, 1], got …`; `dropout_rng is missing: …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Example:
        >>> layer = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, attention_fn=dot_product_attention)
        >>> x, keys = jnp.ones((1, 3, 8)), {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        >>> layer.init_with_output(keys, x, deterministic=False)[0].shape
        (1, 3, 8)
    """
    check_rate(dropout_rate, "dropout_rate")
    query, key, value = linen_promote_dtype(query, key, value, dtype=dtype)
    common: dict[str, Any] = {
        "bias": bias,
        "mask": mask,
        "deterministic": True,
        "precision": precision,
        "module": module,
        "force_fp32_for_softmax": force_fp32_for_softmax,
        "einsum_dot_general": einsum_dot_general,
    }
    einsums = {
        "qk_attn_weights_einsum": qk_attn_weights_einsum,
        "attn_weights_value_einsum": attn_weights_value_einsum,
    }
    whole: jax.Array
    if deterministic or dropout_rate == 0:
        whole = nn.dot_product_attention(query, key, value, **common, **einsums)
        return whole
    refuse_wrong_shapes(
        functools.partial(nn.dot_product_attention, **{**common, "module": None}, **einsums),
        query,
        key,
        value,
    )
    hooks = (module, precision, einsum_dot_general, *einsums.values())
    if all(hook is None for hook in hooks):
        return attend(query, key, value, bias, mask, dropout_rate, dropout_rng, broadcast_dropout)
    weights = nn.dot_product_attention_weights(query, key, **common, einsum=qk_attn_weights_einsum)
    weights = drop_probabilities(weights, dropout_rate, dropout_rng, broadcast_dropout)
    general = einsum_dot_general or jax.lax.dot_general
    plain = functools.partial(jnp.einsum, precision=precision, _dot_general=general)
    whole = (attn_weights_value_einsum or plain)("...hqk,...khd->...qhd", weights, value)
    return whole
