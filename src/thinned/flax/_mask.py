"""The layers of nnx and linen share this file: when a key is drawn, and what one mask is shared along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from thinned._arguments import UNUSED
from thinned.contract import check_probability
from thinned.jax import dropout, fold, mask_spans, patch_dropout
from thinned.jax._attention import attend as tiled


def check_rate(rate: Any, name: str = "rate") -> None:
    """Refuse what is no probability, where its value is known.

    Raises:
        TypeError: `rate must be a real number, got …`.
        ValueError: `rate must be in [0, 1], got …`.
    """
    if not isinstance(rate, jax.core.Tracer):
        check_probability(rate, name)


def thin(
    inputs: Any,
    rate: Any,
    deterministic: bool,
    draw: Callable[[], Any],
    broadcast_dims: Sequence[int] = (),
    mode: Literal["inverted", "classic"] = "inverted",
) -> jax.Array:
    """Dropout by a key that is drawn as Flax draws it: not in evaluation, nor at a rate of 0 or 1.

    A rate in an array always draws, so that a compiled step, which cannot see its value, counts as an eager
    one.
    """
    check_rate(rate)
    training = not deterministic
    draws = training and (isinstance(rate, jax.Array) or rate not in (0, 1))
    key = draw() if draws else UNUSED
    noise = _noise_shape(np.shape(inputs), broadcast_dims)
    return dropout(inputs, rate, key=key, training=training, noise_shape=noise, mode=mode)


def rows(inputs: Any, name: str) -> range:
    """All dimensions but the first: one decision for each sample."""
    if not np.ndim(inputs):
        raise ValueError(f"{name} takes (N, …), got shape (): a number is one sample, pass inputs[None]")
    return range(1, np.ndim(inputs))


def _noise_shape(shape: tuple[int, ...], broadcast_dims: Sequence[int]) -> tuple[int | None, ...] | None:
    if not len(broadcast_dims):
        return None
    noise: list[int | None] = [None] * len(shape)
    for dim in broadcast_dims:
        if not -len(shape) <= dim < len(shape):
            raise ValueError(f"broadcast_dims {tuple(broadcast_dims)} does not fit inputs of shape {shape}")
        noise[dim] = 1
    return tuple(noise)


def refuse_wrong_shapes(attention: Callable[..., Any], *arrays: Any) -> None:
    """Let Flax's attention refuse what it refuses in training, in its words, without computing anything."""

    def training(*arrays: Any) -> Any:
        return attention(*arrays, dropout_rng=jax.random.key(0), dropout_rate=0.5, deterministic=False)

    try:
        jax.eval_shape(attention, *arrays)
    except Exception:
        jax.eval_shape(training, *arrays)
        raise


def check_dropout_key(key: Any) -> None:
    """Refuse attention in training without a key."""
    if key is None:
        raise ValueError(
            "dropout_rng is missing: pass a PRNG key or a thinned.Key, or deterministic=True to evaluate"
        )


def drop_probabilities(weights: jax.Array, rate: Any, key: Any, broadcast: bool) -> jax.Array:
    """Drop probabilities, (…, heads, q_length, kv_length); `broadcast` shares all but the last two."""
    check_dropout_key(key)
    shared = range(weights.ndim - 2) if broadcast else ()
    return thin(weights, rate, False, lambda: key, shared)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Any,
    mask: Any,
    rate: Any,
    dropout_key: Any,
    broadcast: bool,
    is_causal: bool = False,
) -> jax.Array:
    """Attention tile by tile, of (…, length, heads, depth), by the mask that `drop_probabilities` drops by.

    What may not be seen has Flax's score for it, the least number of the type, so that a query which may
    look nowhere gets the mean of all values, as in evaluation.
    """
    check_dropout_key(dropout_key)
    lead, heads, queries, keys = query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3]
    scores = (*lead, heads, queries, keys)
    q, k, v = (array.reshape(-1, *array.shape[-3:]) for array in (query, key, value))
    output, _ = tiled(
        q,
        k,
        v,
        _of_rank_4(bias, scores),
        _of_rank_4(None if mask is None else jnp.asarray(mask).astype(bool), scores),
        rate,
        dropout_key,
        is_causal=is_causal,
        noise_shape=(1, 1, None, None) if broadcast else None,
        blind=float(jnp.finfo(query.dtype).min),  # type: ignore[no-untyped-call]
    )
    return output.reshape(*query.shape[:-1], value.shape[-1])


def _of_rank_4(array: Any, scores: tuple[int, ...]) -> Any:
    """Return what fits the scores, (…, heads, q_length, kv_length), with one dimension in front of heads."""
    if array is None:
        return None
    array = jnp.asarray(array)
    whole = jnp.reshape(array, (1,) * (len(scores) - array.ndim) + array.shape)
    lead = whole.shape[:-3]
    if len(lead) != 1 and any(size != 1 for size in lead):
        whole = jnp.broadcast_to(whole, (*scores[:-3], *whole.shape[-3:]))
    return whole.reshape(-1, *whole.shape[-3:])


def spans(
    inputs: Any, parts: Sequence[tuple[int, int, int]], value: float, deterministic: bool, draw: Any
) -> jax.Array:
    """SpecAugment's masks, part n by the drawn key folded by n; each is a width, a count and a dimension."""
    whole = UNUSED if deterministic else draw()
    for number, (width, count, axis) in enumerate(parts):
        key = whole if deterministic else fold(whole, number)
        inputs = mask_spans(inputs, width, count, axis, key=key, training=not deterministic, value=value)
    return inputs  # type: ignore[no-any-return]


def patches(inputs: Any, rate: float, prefix: int, deterministic: bool, draw: Any) -> jax.Array:
    """PatchDropout by a key that is drawn where tokens are dropped."""
    check_rate(rate)
    key = UNUSED if deterministic or rate == 0 else draw()
    return patch_dropout(inputs, rate, key=key, training=not deterministic, prefix_tokens=prefix)
