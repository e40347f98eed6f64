"""Attention is computed here by blocks of queries in torch's operators, for any device, dtype and p."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from thinned.torch._attention import _formula
from thinned.torch._attention._formula import Call

_ELEMENTS = 1 << 21  # probabilities in a block: 8 MiB in float32, a few of which are alive at a time


def forward(call: Call, out: Tensor, logsumexp: Tensor) -> None:
    """Write the result and each row's logsumexp of the scores."""
    query, key, value, attn_mask, is_causal, scale, drop = call
    wide = torch.promote_types(query.dtype, torch.float32)
    key, value = key.to(wide), value.to(wide)
    for rows, columns in _blocks(query, key, is_causal):
        q = query[..., rows, :].to(wide)
        k, v = key[..., columns, :], value[..., columns, :]
        mask = _part(attn_mask, rows)
        scores, probabilities = _formula.weights(q, k, mask, is_causal, scale, rows.start)
        most = scores.amax(-1)
        log = (scores - most.nan_to_num()[..., None]).exp().sum(-1).log()
        logsumexp[..., rows, :] = torch.stack([most, log], -1)
        dropped = drop.rows(probabilities, rows.start, query.shape[-2], key.shape[-2])
        out[..., rows, :] = _formula.times(dropped, v)


def backward(grad: Tensor, call: Call, mask_grad: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of query, key, value and, where it is wanted, of the mask; as sums are kept."""
    query, key, value, attn_mask, is_causal, scale, drop = call
    wide = torch.promote_types(query.dtype, torch.float32)
    of_query = torch.zeros_like(query, dtype=wide)
    of_key, of_value = (torch.zeros_like(each, dtype=wide) for each in (key, value))
    of_mask = torch.zeros_like(attn_mask, dtype=wide) if attn_mask is not None and mask_grad else None
    key, value = key.to(wide), value.to(wide)
    for rows, columns in _blocks(query, key, is_causal):
        g, q = grad[..., rows, :].to(wide), query[..., rows, :].to(wide)
        k, v, mask = key[..., columns, :], value[..., columns, :], _part(attn_mask, rows)
        place = (rows.start, query.shape[-2], key.shape[-2])
        found = _formula.backward(g, Call(q, k, v, mask, is_causal, scale, drop), *place)
        of_query[..., rows, :] = found[0]
        of_key[..., columns, :] += found[1]
        of_value[..., columns, :] += found[2]
        if of_mask is not None:
            part = of_mask if of_mask.shape[-2] == 1 else of_mask[..., rows, :]
            part = part[..., columns] if part.shape[-1] != 1 else part
            part += _formula.of_mask(found[3], part)
    return of_query, of_key, of_value, of_mask


def _part(mask: Tensor | None, rows: slice) -> Tensor | None:
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]


def _blocks(query: Tensor, key: Tensor, is_causal: bool) -> Iterator[tuple[slice, slice]]:
    """Rows, and the columns that they may look at."""
    length, keys = query.shape[-2], key.shape[-2]
    height = max(1, _ELEMENTS // max(1, math.prod(query.shape[:-2]) * keys))
    for first in range(0, length, height):
        end = min(first + height, length)
        yield slice(first, end), slice(0, min(keys, end) if is_causal else keys)
