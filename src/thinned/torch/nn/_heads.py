"""Attention with many heads computes its training pass here, with masks and weights to return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from thinned.contract import Key
from thinned.torch import functional
from thinned.torch._attention import _formula
from thinned.torch._placement import Place

Masks = tuple[Tensor | None, Tensor | None, bool]  # attn_mask, key_padding_mask, is_causal


def check(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
) -> None:
    """Refuse what cannot be attended to.

    Raises:
        TypeError: `query is nested …`; `attn_mask must be bool or floating, got …`.
        ValueError: `query, key and value must all have 3 dimensions, or 2 …`.
    """
    if query.is_nested or key.is_nested or value.is_nested:
        raise TypeError(
            "query is nested, which MultiheadAttention takes in evaluation alone, as torch's does: pass "
            "query.to_padded_tensor(0.0) and a key_padding_mask"
        )
    shapes = [tuple(x.shape) for x in (query, key, value)]
    if query.dim() not in (2, 3) or not query.dim() == key.dim() == value.dim():
        raise ValueError(
            f"query, key and value must all have 3 dimensions, or 2 for one sequence, got shapes {shapes}"
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"key and value must have one length and batch, got shapes {shapes[1:]}")
    for name, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
        if mask is not None and mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(f"{name} must be bool or floating, got {mask.dtype}")


def projected(module: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value of all heads side by side, (…, embed_dim), by as few products as there can be."""
    width, bias = module.embed_dim, module.in_proj_bias
    if module.in_proj_weight is None:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        inputs = (query, key, value)
        return tuple(linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
    weight = module.in_proj_weight
    if query is key and key is value:
        return linear(query, weight, bias).chunk(3, -1)
    first = linear(query, weight[:width], None if bias is None else bias[:width])
    if key is value:
        both = linear(key, weight[width:], None if bias is None else bias[width:])
        return (first, *both.chunk(2, -1))
    biases = (None, None) if bias is None else bias[width:].chunk(2)
    rest = zip((key, value), weight[width:].chunk(2), biases, strict=True)
    return (first, *(linear(x, w, b) for x, w, b in rest))


def split(x: Tensor, heads: int, batch_first: bool) -> Tensor:
    """Reshapes (N, L, E), (L, N, E) or (L, E) to (N, heads, L, E / heads)."""
    x = x.unflatten(-1, (heads, -1))
    if x.dim() == 3:
        return x.transpose(0, 1).unsqueeze(0)
    return x.transpose(1, 2) if batch_first else x.permute(1, 2, 0, 3)


def joined(x: Tensor, batched: bool, batch_first: bool) -> Tensor:
    """The inverse of `split`."""
    if not batched:
        return x.squeeze(0).transpose(0, 1).flatten(-2)
    return (x.transpose(1, 2) if batch_first else x.permute(2, 0, 1, 3)).flatten(-2)


def extended(module: Any, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Appends the learned key and value, and those of zeros."""
    if module.bias_k is not None:
        shape = (1, module.num_heads, 1, -1)
        ends = (module.bias_k.reshape(shape), module.bias_v.reshape(shape))
        key, value = (
            torch.cat((x, end.to(x.dtype).expand(len(x), -1, -1, -1)), -2)
            for x, end in zip((key, value), ends, strict=True)
        )
    if module.add_zero_attn:
        key, value = pad(key, (0, 0, 0, 1)), pad(value, (0, 0, 0, 1))
    return key, value


def merged(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, shape: tuple[int, ...], extra: int
) -> Tensor | None:
    """Merges the masks for probabilities (N, heads, L, S), as `scaled_dot_product_attention` takes one.

    torch's module takes bool masks whose True forbids; the function's allow. The last `extra` keys are no
    input's, and every query may look at them.

    Raises:
        ValueError: `attn_mask of shape … does not fit …`; `key_padding_mask of shape … does not fit …`.
    """
    n, heads, length, keys = shape
    keys -= extra
    masks = []
    if attn_mask is not None:
        if attn_mask.shape not in ((length, keys), (n * heads, length, keys)):
            raise ValueError(
                f"attn_mask of shape {tuple(attn_mask.shape)} does not fit: it is (L, S) = {(length, keys)} "
                f"or (N * num_heads, L, S) = {(n * heads, length, keys)}"
            )
        masks.append(attn_mask.unflatten(0, (n, heads)) if attn_mask.dim() == 3 else attn_mask)
    if key_padding_mask is not None:
        if key_padding_mask.shape != (n, keys) and (n != 1 or key_padding_mask.shape != (keys,)):
            raise ValueError(
                f"key_padding_mask of shape {tuple(key_padding_mask.shape)} does not fit: it is (N, S) = "
                f"{(n, keys)}, or (S) for one sequence"
            )
        masks.append(key_padding_mask.reshape(n, 1, 1, keys))
    if not masks:
        return None
    masks = [pad(mask, (0, extra)) for mask in masks] if extra else masks
    if all(mask.dtype == torch.bool for mask in masks):
        return ~(masks[0] if len(masks) == 1 else masks[0] | masks[1])
    added = [_added(mask) for mask in masks]
    return added[0] if len(added) == 1 else added[0] + added[1]


def _added(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros((), device=mask.device).expand(mask.shape).masked_fill(mask, -torch.inf)


def weighted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    p: float | Tensor,
    dropout_key: Key | Tensor | None,
    place: Place,
) -> tuple[Tensor, Tensor]:
    """Return what `scaled_dot_product_attention` gives, and its dropped probabilities (N, heads, L, S)."""
    _, probabilities = _formula.weights(query, key, mask, False, None)
    dropped = functional.dropout(probabilities, p, True, key=dropout_key, **place)
    return dropped.to(value.dtype) @ value, dropped
