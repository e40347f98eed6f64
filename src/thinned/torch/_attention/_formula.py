"""Attention's formula is written here in torch's operators, differentiable, for any rows.

Shapes: query (…, H, L, E), key (…, K, S, E) and value (…, K, S, Ev), where K divides H and each head of key
serves H / K heads of query, one after another; probabilities (…, H, L, S).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.torch import _mesh, _operator
from thinned.torch._batching import Sizes


class Drop(NamedTuple):
    """Holds what says which probabilities are dropped.

    `key` holds one key, or one for each of the probabilities' first dimensions; `p` is one number or fits the
    probabilities; positions count in the dimensions that have no key of their own.
    """

    key: Tensor
    p: Tensor
    global_shape: Sizes = None
    start: Sizes = None
    step: Sizes = None

    def rows(self, probabilities: Tensor, first: int, length: int, keys: int) -> Tensor:
        """The probabilities of queries from `first` on, and of the first keys, out of (length, keys)."""
        shape = (*probabilities.shape[self.key.dim() - 1 : -2], length, keys)
        whole, start, step = self.global_shape, self.start, self.step
        if first or shape[-2:] != probabilities.shape[-2:] or whole is not None:
            step = [1] * len(shape) if step is None else list(step)
            start = [0] * len(shape) if start is None else list(start)
            start[-2] = start[-2] + first * step[-2]
            whole = shape if whole is None else whole
        p = self.p
        if p.dim():
            sizes = probabilities.shape[-2:]
            p = p.narrow(-2, first, sizes[0]) if p.shape[-2] != 1 else p
            p = p.narrow(-1, 0, sizes[1]) if p.shape[-1] != 1 else p
        return _operator.dropout(probabilities, self.key, p, True, None, whole, start, step)


class Call(NamedTuple):
    """Holds one call of attention, without its results and gradients."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None
    is_causal: bool
    scale: float | None
    drop: Drop


def factor_of(query: Tensor, scale: float | None) -> float:
    """Return what scores are multiplied by."""
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def times(left: Tensor, right: Tensor) -> Tensor:
    """Multiplies each head of left (…, H, L, N) by its head of right, (…, K, N, M)."""
    if left.dim() < 3 or left.shape[-3] == right.shape[-3]:
        return left @ right
    return (_grouped(left, right) @ right).reshape(*left.shape[:-1], right.shape[-1])


def summed(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """leftᵀ · right for (…, H, L, S) and (…, H, L, E), added over the heads that one of `like` serves."""
    if left.dim() < 3 or left.shape[-3] == like.shape[-3]:
        return left.mT @ right
    return _grouped(left, like).mT @ _grouped(right, like)


def _grouped(heads: Tensor, like: Tensor) -> Tensor:
    groups = like.shape[-3]
    return heads.reshape(*heads.shape[:-3], groups, heads.shape[-3] // groups * heads.shape[-2], -1)


def weights(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Scores, and probabilities, of queries that begin at `first`; 0 in rows that may look nowhere."""
    scores = times(query * factor_of(query, scale), key.mT)
    if is_causal:
        seen = torch.arange(query.shape[-2], device=query.device)[:, None] + first
        hidden = torch.arange(key.shape[-2], device=query.device) > seen
        scores = scores.masked_fill(_mesh.beside(query, hidden, divided=False), -torch.inf)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    return scores, scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)


def forward(call: Call) -> Tensor:
    """The result, by probabilities that are stored."""
    query, key, value, attn_mask, is_causal, scale, drop = call
    _, probabilities = weights(query, key, attn_mask, is_causal, scale)
    return times(drop.rows(probabilities, 0, *probabilities.shape[-2:]), value)


def backward(
    grad: Tensor, call: Call, first: int = 0, length: int | None = None, keys: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and scores, by probabilities that are stored."""
    query, key, value, attn_mask, is_causal, scale, drop = call
    _, probabilities = weights(query, key, attn_mask, is_causal, scale, first)
    rows, columns = probabilities.shape[-2:]
    place: tuple[Any, ...] = (first, length or rows, keys or columns)
    dropped = drop.rows(probabilities, *place)
    of_weights = drop.rows(times(grad, value.mT), *place)
    of_scores = probabilities * (of_weights - (of_weights * probabilities).sum(-1, keepdim=True))
    factor = factor_of(query, scale)
    return (
        times(of_scores, key) * factor,
        summed(of_scores, query, key) * factor,
        summed(dropped, grad, value),
        of_scores,
    )


def of_mask(of_scores: Tensor, attn_mask: Tensor) -> Tensor:
    """The scores' gradient, added up where the mask is shared."""
    shared = [at for at, size in enumerate(attn_mask.shape) if size == 1 != of_scores.shape[at]]
    return of_scores.sum(shared, keepdim=True) if shared else of_scores
