"""`dot_product_attention` checks its arguments here and calls the tiled passes."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from thinned._arguments import DROP_ALL, requires_training
from thinned._position import Shape
from thinned.jax import _dropout, _key, _rate
from thinned.jax._attend import attend_p
from thinned.jax._primitive import rounded
from thinned.jax._tiles import Spec, parts
from thinned.jax._types import AnyKey, Start


@requires_training
def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    dropout_p: ArrayLike = 0.0,
    dropout_key: AnyKey | None = None,
    training: bool,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    return_residual: bool = False,
    global_shape: Shape | None = None,
    start: Start | None = None,
) -> Any:
    """Attend as `jax.nn.dot_product_attention` does, with the probabilities dropped by the mask of a key.

    Tile by tile, forward and backward: nothing of T × S is kept, and the mask is made where it is used. It is
    the mask of shape (B, N, T, S), in that order also where query is (B, T, N, H): the one of
    `thinned.torch.functional.scaled_dot_product_attention` for (B, H, L, S).

    Args:
        query: (B, T, N, H) or (T, N, H); float32, float64, float16 or bfloat16.
        key: (B, S, K, H), what queries are compared with; K divides N. The mask's key is `dropout_key`.
        value: as key.
        bias: added to the scores; broadcasts to (B, N, T, S). Its gradient has its own shape.
        mask: bool, True where a query may look; broadcasts likewise. A query that may look nowhere gets
            zeros, here and in evaluation.
        dropout_p: drop probability in [0, 1]: a number, a traced scalar, or an array that broadcasts to
            (B, N, T, S): one for each head, say.
        dropout_key: the mask's key: as `key` of `dropout`.
        training: True drops, False evaluates. Required.
        scale: of the scores; 1/√H if not given.
        is_causal: query i looks at the first i + 1 keys.
        query_seq_lengths: int32, shape (B,): queries beyond give zeros.
        key_value_seq_lengths: int32, shape (B,): keys beyond are not seen.
        local_window_size: how many keys before and behind its own a query sees.
        implementation: JAX's, where nothing is dropped.
        return_residual: return the logarithm of the sum of exponentials too, (B, T, N), in query's dtype.
        global_shape: shape of the whole mask (B, N, T, S), where this is a shard of it, as in
            `jax.shard_map`.
        start: index of the shard's first element in it, integers or traced integers; zeros if not given.

    Returns:
        Like query; computed in float32 (float64 for float64) and rounded once. Where nothing is dropped,
        `jax.nn.dot_product_attention`'s.

    Raises:
        TypeError: `training is missing: …`; `dropout_key must be …`; `mask must be bool, …`; and as
            `dropout`.
        ValueError: `dropout_p must be in [0, 1], got …`; `… does not fit …`; `… heads of key do not divide
            …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017; Dao, "FlashAttention-2", 2023, for the
        passes; CONTRACT.md, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> q, k = jnp.zeros((2, 1, 4)), jnp.zeros((4, 1, 4))
        >>> seen = jnp.eye(4)[:, None]
        >>> dot_product_attention(q, k, seen, dropout_p=0.5, dropout_key=Key(0), training=True)[:, 0]
        Array([[0.5, 0. , 0.5, 0.5],
               [0.5, 0.5, 0.5, 0.5]], dtype=float32)
    """
    training = _dropout.check_static(training)
    arrays: list[Any] = [None if one is None else jnp.asarray(one) for one in (query, key, value, bias, mask)]
    _dropout.check_dtype(arrays[0], "query")
    drop = _rate.thresholds(dropout_p)
    options: dict[str, Any] = {
        "scale": scale,
        "is_causal": is_causal,
        "query_seq_lengths": query_seq_lengths,
        "key_value_seq_lengths": key_value_seq_lengths,
        "local_window_size": local_window_size,
        "implementation": implementation,
        "return_residual": return_residual,
    }
    plain = functools.partial(jax.nn.dot_product_attention, **options)
    window = (local_window_size,) * 2 if isinstance(local_window_size, int) else local_window_size
    lengths = {"query_lengths": query_seq_lengths, "key_lengths": key_value_seq_lengths}
    shape = arrays[0].shape
    q, k, v, b, m = (None if one is None else _of_rank_4(one) for one in arrays)
    if not training or (drop is not None and not np.any(drop)):
        return _plain(plain, arrays, _blind(q, k, m, is_causal, window, key_value_seq_lengths))
    jax.eval_shape(plain, *arrays)  # refuses what does not fit, in JAX's words
    if dropout_key is None:
        raise TypeError(
            "dropout_key is missing: pass a thinned.Key, a PRNG key or its words, or training=False"
        )
    output, residual = attend(
        q,
        k,
        v,
        b,
        m,
        dropout_p,
        dropout_key,
        scale=scale,
        is_causal=is_causal,
        window=window,
        lengths=lengths,
        global_shape=global_shape,
        start=start,
    )
    if return_residual:
        return output.reshape(shape), lax.stop_gradient(residual).reshape(shape[:-1])
    return output.reshape(shape)


def attend(
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    mask: Any,
    p: Any,
    dropout_key: Any,
    *,
    scale: Any = None,
    is_causal: bool = False,
    window: tuple[int, int] | None = None,
    lengths: dict[str, Any] | None = None,
    noise_shape: Any = None,
    global_shape: Shape | None = None,
    start: Any = None,
    blind: float = -math.inf,
) -> tuple[jax.Array, jax.Array]:
    """Computes output and residual in training, of four-dimensional arguments that fit each other.

    Args:
        query: (B, T, N, H).
        key: (B, S, K, H).
        value: (B, S, K, ·), of any depth.
        bias: fits (B, N, T, S).
        mask: bool, likewise.
        p: as `dropout_p` of `dot_product_attention`.
        dropout_key: likewise.
        scale: likewise.
        is_causal: likewise.
        window: likewise.
        lengths: int32 of shape (B,): "query_lengths" and "key_lengths".
        noise_shape: of the mask (B, N, T, S), as in `dropout`.
        global_shape: as in `dropout`.
        start: as in `dropout`.
        blind: the score of what may not be seen; see `_tiles.Spec`.
    """
    drop = _rate.thresholds(p)
    batch, length, heads, depth = query.shape
    size, groups = key.shape[1], heads // (key.shape[2] or 1)
    for name, one in (("bias", bias), ("mask", mask), ("dropout_p", p)):
        _check_fits(name, np.shape(one), (batch, heads, length, size))
    words = _key.words(dropout_key, "dropout_key")
    steps, first = _dropout.places((batch, heads, length, size), noise_shape, global_shape, start)
    _key.spend(dropout_key)
    wide = np.dtype(np.float64 if query.dtype == np.float64 else np.float32)
    factor = 1.0 / math.sqrt(depth) if scale is None else jnp.asarray(scale, wide)
    scaled = query.astype(wide) * factor
    operands = {
        "query": jnp.moveaxis(scaled.reshape(batch, length, heads // groups, groups, depth), 1, 3),
        "key_heads": jnp.moveaxis(key, 1, 2),
        "value": jnp.moveaxis(value, 1, 2),
        "bias": _grouped(bias, groups),
        "mask": _grouped(mask, groups),
        **{name: None if one is None else jnp.asarray(one) for name, one in (lengths or {}).items()},
        "key": words,
        "threshold": _grouped(_rate.many_words(p, drop), groups),
        "start": first,
    }
    operands = {name: one for name, one in operands.items() if one is not None}
    lengths_of = (length, size)
    spec = Spec(lengths_of, parts(lengths_of), bool(is_causal), window, blind, steps, 0, tuple(operands))
    if 0 in (batch, length, heads, size):
        like = operands["query"].shape[:-1]
        output, shift, total = (jnp.zeros(each, wide) for each in ((*like, value.shape[-1]), like, like))
    else:
        output, shift, total = attend_p.bind(*_dropout.alike(*operands.values()), spec=spec)
    if drop is not None and np.all(drop == DROP_ALL):
        output = jnp.zeros(output.shape, wide)  # whatever NaN there was
    residual = jnp.log(total) + shift
    return tuple(
        rounded(jnp.moveaxis(one, 3, 1), query.dtype).reshape(batch, length, heads, *one.shape[4:])
        for one in (output, residual)
    )


def _check_fits(name: str, shape: tuple[Any, ...], scores: tuple[Any, ...]) -> None:
    fits = zip(reversed(shape), reversed(scores), strict=False)
    if len(shape) > 4 or not all(one in (1, size) for one, size in fits):
        raise ValueError(f"{name} of shape {shape} does not fit the scores, (B, N, T, S) = {scores}")


def _of_rank_4(array: Any) -> Any:
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def _grouped(array: Any, groups: int) -> Any:
    """(B, N, T, S, …) as (B, K, G, T, S, …); what has no such dimensions, a single threshold, as it is."""
    if array is None or array.ndim < 4:
        return array
    batch, heads, *rest = array.shape
    over = (1, 1) if heads == 1 else (heads // groups, groups)
    return array.reshape(batch, *over, *rest)


def _blind(query: Any, key: Any, mask: Any, is_causal: bool, window: Any, key_lengths: Any) -> Any:
    """Return which queries may look nowhere, (B, T, N) or what broadcasts to it; None where none can be."""
    if mask is None and window is None and key_lengths is None:
        return None
    row = jnp.arange(query.shape[1])[None, None, :, None]
    column = jnp.arange(key.shape[1])[None, None, None, :]
    seen = jnp.ones((1, 1, 1, 1), bool) if mask is None else mask
    if is_causal:
        seen = seen & (column <= row)
    if window is not None:
        seen = seen & (row <= column + window[0]) & (row >= column - window[1])
    if key_lengths is not None:
        seen = seen & (column < jnp.asarray(key_lengths)[:, None, None, None])
    return jnp.moveaxis(~seen.any(-1), 1, 2)


def _plain(function: Any, arrays: list[Any], blind: Any) -> Any:
    """JAX's own, with zeros for a query that may look nowhere: it gives the mean of all values."""
    result = function(*arrays)
    if blind is None:
        return result
    output, *residual = result if isinstance(result, tuple) else (result,)
    if output.ndim == 3:
        blind = blind[0]
    output = jnp.where(blind[..., None], jnp.zeros((), output.dtype), output)
    if not residual:
        return output
    return output, jnp.where(blind, -np.inf, residual[0]).astype(residual[0].dtype)
