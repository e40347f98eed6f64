"""Attention drops its probabilities here."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, check_training, requires_training
from thinned.contract import Key, check_probability
from thinned.torch import _autocast, _key, _mesh, _native, _operands, _rate
from thinned.torch._attention import _formula, attention
from thinned.torch._attention._formula import Call, Drop
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, as_lists
from thinned.torch.functional._dropout import dropout


@overridable
@requires_training
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float | Tensor = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    training: bool,
    dropout_key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.scaled_dot_product_attention`, with a mask of a key.

    Where nothing is dropped it is torch's, by the fastest of its ways. In training, softmax(query · keyᵀ ·
    scale + mask) is dropped by the mask of its own shape (…, L, S), tile by tile: nothing of that size is
    stored. For the backward pass the result and two numbers for each query are kept; the rest is recomputed.

    Args:
        query: (…, L, E); float32, float64, float16 or bfloat16.
        key: (…, S, E), what queries are compared with. The mask's key is `dropout_key`, by the name of
            `dropout_p`.
        value: (…, S, Ev).
        attn_mask: broadcasts to (…, L, S): bool, True where a query may look; or floating, added to the
            scores. A query that may look nowhere gets zeros.
        dropout_p: drop probability in [0, 1]; or a floating tensor of no dimension, or one that fits
            (…, L, S): a probability for each head, say.
        is_causal: query i looks at the first i + 1 keys; not with attn_mask.
        scale: of the scores; 1/√E if not given.
        enable_gqa: each head of key and value, dimension −3, serves several of query's.
        training: True drops, False evaluates. Required: a function cannot see `model.eval()`.
        dropout_key: the mask's key, or an int64 tensor of its seed and stream.
        generator: where a key is drawn from without one; torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, of the probabilities (…, L, S): where a
            rank has some of the heads or queries.

    Returns:
        (…, L, Ev), computed in float32 (float64 for float64) and rounded once to query's dtype, or to
        autocast's.

    Raises:
        TypeError: `training is missing: …`; `input must be float32, …, got …`; `attn_mask must be bool, …`.
        ValueError: `dropout_p must be in [0, 1], got …`; `pass attn_mask or is_causal=True, not both`;
            `… heads of key do not divide …`; `… is on … and query on …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017; dropout of the probabilities as in its
        reference code. CONTRACT.md, section 3.

    Example:
        >>> import torch, thinned
        >>> q, k = torch.zeros(1, 2, 4), torch.zeros(1, 4, 4)
        >>> seen = torch.eye(4).unsqueeze(0)
        >>> scaled_dot_product_attention(q, k, seen, None, 0.5, training=True, dropout_key=thinned.Key(0))
        tensor([[[0.5000, 0.0000, 0.5000, 0.5000],
                 [0.5000, 0.5000, 0.5000, 0.5000]]])
    """
    training = check_training(training)
    _native.check_dtype(query, training)
    _check_mask(attn_mask, is_causal, query)
    _operands.one_device("query", query, key=key, value=value, attn_mask=attn_mask)
    drop = _threshold(dropout_p, query, (key, value), attn_mask, enable_gqa)
    dropout_key = _key.check_source(dropout_key, generator, "dropout_key")
    if training and drop == DROP_ALL:
        # Zeros go in, lest a NaN of value reach a gradient.
        query, key, value = (dropout(each, 1.0, True) for each in (query, key, value))
        if attn_mask is not None:
            attn_mask = dropout(attn_mask, 1.0, True) if attn_mask.is_floating_point() else None
        is_causal = False
    if not training or drop in (0, DROP_ALL):
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    to = _autocast.result_type(query)
    if not query.dtype == key.dtype == value.dtype:
        wide = torch.promote_types(query.dtype, torch.float32)
        query, key, value = query.to(wide), key.to(wide), value.to(wide)
    _mesh.check_source(query, dropout_key, generator, "dropout_key")
    bits, rate = _key.as_tensor(dropout_key, generator), _rate.as_tensor(dropout_p, drop)
    heads = _aligned(query, key, value, attn_mask, enable_gqa)
    where = as_lists(place, (*heads[0].shape[:-1], key.shape[-2]))
    with _autocast.off(query):
        if any(_mesh.is_dtensor(each) for each in heads):
            return _formula.forward(Call(*heads, is_causal, scale, Drop(bits, rate, *where))).to(to)
        return attention(*heads, bits, rate, is_causal, scale, *where).to(to)


def _aligned(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The operands with as many dimensions each and of one batch; heads of key stay as many as they are."""
    if enable_gqa and (key.shape[-3] != value.shape[-3] or _mesh.is_dtensor(query)):
        key, value = _repeated(key, query), _repeated(value, query)
    elif enable_gqa:
        _check_groups(key, query)
    others = (query,) if attn_mask is None else (query, attn_mask)
    own = (key, value) if not enable_gqa else ()
    served = torch.broadcast_shapes(*(each.shape[-3:-2] for each in (*others, *own)))
    front = torch.broadcast_shapes(*(each.shape[:-3] for each in (*others, key, value)))
    serving = key.shape[-3:-2] if enable_gqa or key.shape[-3:-2] == value.shape[-3:-2] == (1,) else served
    if attn_mask is not None:
        rank = len(front) + len(served) + 2
        attn_mask = attn_mask.reshape(*(1,) * (rank - attn_mask.dim()), *attn_mask.shape)
        attn_mask = _mesh.beside(query, attn_mask, divided=False)
    return (
        query.expand(*front, *served, *query.shape[-2:]),
        key.expand(*front, *serving, *key.shape[-2:]),
        value.expand(*front, *serving, *value.shape[-2:]),
        attn_mask,
    )


def _check_mask(attn_mask: Tensor | None, is_causal: bool, query: Tensor) -> None:
    if attn_mask is None:
        return
    if is_causal:
        raise ValueError("pass attn_mask or is_causal=True, not both: put the causal mask into attn_mask")
    if attn_mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise TypeError(f"attn_mask must be bool, float32 or query's {query.dtype}, got {attn_mask.dtype}")


def _repeated(heads: Tensor, query: Tensor) -> Tensor:
    _check_groups(heads, query)
    return heads.repeat_interleave(query.shape[-3] // heads.shape[-3], -3)


def _check_groups(heads: Tensor, query: Tensor) -> None:
    have, need = heads.shape[-3], query.shape[-3]
    if not have or need % have:
        raise ValueError(
            f"{have} heads of key do not divide the {need} of query: with enable_gqa each serves as many"
        )


def _threshold(
    p: Any, query: Tensor, others: tuple[Tensor, Tensor], attn_mask: Tensor | None, enable_gqa: bool
) -> int | None:
    if not isinstance(p, Tensor):
        return _rate.threshold(check_probability(p, "dropout_p"), query)
    if not p.dim():
        return _rate.threshold(p, query)
    fronts: list[tuple[int, ...]] = (
        [query.shape[:-2]] if attn_mask is None else [query.shape[:-2], attn_mask.shape[:-2]]
    )
    for each in others:
        heads = query.shape[-3:-2] if enable_gqa else each.shape[-3:-2]  # each is repeated for query's
        fronts.append((*each.shape[:-3], *heads))
    shape = (*torch.broadcast_shapes(*fronts), query.shape[-2], others[0].shape[-2])
    return _rate.threshold(p, query.new_empty(()).expand(shape))
