"""A linear map of what is kept, as one function for autograd: the gather of its weight, and the product.

With few rows a step is short, and what Python and autograd take for each function is a large part of it: a
gather of the weight, one of the bias and the product, each with a function of its own, took as long as the
products themselves.
"""

from __future__ import annotations

import weakref
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned import _kernel
from thinned.torch import _compat, _eager, _native
from thinned.torch._thin import _spare
from thinned.torch._thin._submatrix import (
    Index,
    as_sparse,
    gathered,
    nothing,
    scattered_within,
    spread,
    take,
)

_DTYPES = (torch.float32, torch.float64)


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Index,
    columns: Index,
    scale: float,
    sparse: bool = False,
) -> Tensor:
    """`F.linear` by some rows of a weight and its bias, and by some columns of the weight.

    Args:
        input: (…, number of columns).
        weight: (height, width); its gradient is dense, 0 where nothing was taken.
        bias: (height,).
        rows: ascending numbers, int64; None for all.
        columns: likewise.
        scale: the weight is multiplied by it.
        sparse: the weight's gradient is a sparse tensor of the rows.
    """
    reuse = keeps_memory(input, weight)
    if _is_short(input, weight, bias):
        made: Tensor = _apply(input, weight, bias, rows, columns, scale, sparse and rows is not None, reuse)
        return made
    part = take(weight, rows, columns, scale, sparse, reuse)
    return F.linear(input, part, None if bias is None else take(bias, rows, None))


def keeps_memory(input: Tensor, weight: Tensor) -> bool:
    """Whether the memory of a weight's gradient is kept for the next one.

    It is memory beside the activations; where these are the larger part, a step would need more than without
    dropout, and page faults are a smaller part of it.
    """
    return input.numel() < weight.numel()


def _is_short(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        _kernel.put_within is not None
        and _eager.applies(input)
        and _eager.ordinary(weight)
        and weight.dtype in _DTYPES
        and input.dtype == weight.dtype
        and input.is_contiguous()
        and weight.is_contiguous()
        and (bias is None or (_eager.ordinary(bias) and bias.dtype == weight.dtype and bias.is_contiguous()))
        and not _compat.forward_derivatives()
        and not torch.is_autocast_enabled("cpu")
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Index,
        columns: Index,
        scale: float,
        sparse: bool,
        reuse: bool,
    ) -> Tensor:
        ctx.how, ctx.sparse, ctx.shape = (rows, columns, scale), sparse, tuple(weight.shape)
        ctx.weight = weakref.ref(weight) if reuse and weight.is_leaf else nothing
        part = gathered(weight, rows, columns, scale)
        of_input = ctx.needs_input_grad[0]  # a first layer's gradients ask for no weight
        ctx.save_for_backward(input, weight if of_input else None, part if of_input else None)
        return F.linear(input, part, None if bias is None else gathered(bias, rows, None, 1.0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return _gradients(ctx, grad)
        return _gradients(ctx, grad)


_apply = _compat.direct_apply(_Linear)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, weight, part = ctx.saved_tensors
    rows, columns, scale = ctx.how
    of_input, of_weight, of_bias = ctx.needs_input_grad[:3]
    again = torch.is_grad_enabled()  # it will be derived itself
    if again and of_input:
        part = take(weight, rows, columns, scale)
    made: list[Any] = [grad @ part if of_input else None, None, None]
    left, right = grad.reshape(-1, grad.shape[-1]), input.reshape(-1, input.shape[-1])
    short = not again and _eager.applies(grad)
    if of_weight:
        if short and not ctx.sparse:
            made[1] = _gradient_of(left, right, ctx)
        else:
            placed = as_sparse if ctx.sparse and not again else spread
            made[1] = placed(left.mT @ right, rows, columns, scale, ctx.shape)
    if of_bias:
        made[2] = spread(left.sum(0), rows, None, 1.0, ctx.shape[:1])
    return (*made, None, None, None, None, None)


def _gradient_of(left: Tensor, right: Tensor, ctx: Any) -> Tensor:
    """The gradient, whose kept part is computed where it then gives way to zeros: no other memory is needed."""
    weight = ctx.weight()
    if weight is None:
        whole = torch.empty(ctx.shape, dtype=left.dtype, device="cpu")
    else:
        whole = _spare.memory_for(weight)
    height, width = left.shape[1], right.shape[1]
    part = whole.view(-1)[: height * width].view(height, width)
    torch.mm(left.t(), right, out=part)
    scattered_within(whole, *ctx.how)
    return whole
