"""Dropout in place on a device with a kernel: one pass, where the operator would need a copy besides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned._position import positions
from thinned.torch import _cuda, _operator
from thinned.torch._batching import Sizes, noise_of


def applies(input: Tensor, p: Tensor) -> bool:
    """Whether there is a kernel for it, and nothing watches that would have to see an operator."""
    return p.numel() == 1 and _cuda.writes(input)


def dropout(input: Tensor, key: Tensor, p: Tensor, *rest: Any) -> Tensor:
    """Drop in place, with a gradient if one is wanted; `rest` as the operator has it."""
    if input.requires_grad and torch.is_grad_enabled():
        result: Tensor = _InPlace.apply(input, key, p, *rest)  # type: ignore[no-untyped-call]
        return result
    return _write(input, key, p, *rest)


def _write(input: Tensor, key: Tensor, p: Tensor, inverted: bool, noise: Sizes, *place: Any) -> Tensor:
    from thinned.torch._triton import _launch

    base, strides = positions(tuple(input.shape), noise_of(noise), *place)
    return _launch.dropout(input, input, key, p, inverted, base, strides)


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, key: Tensor, p: Tensor, *rest: Any) -> Tensor:
        ctx.mark_dirty(input)
        ctx.save_for_backward(key, p)
        ctx.rest = rest
        return _write(input, key, p, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        again = _operator.dropout(grad, *ctx.saved_tensors, *ctx.rest)
        return again, None, None, *(None for _ in ctx.rest)
