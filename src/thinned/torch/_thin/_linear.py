"""A linear map of what is kept, as one function for autograd: the gather of its weight, and the product.

With few rows a step is short, and what Python and autograd take for each function is a large part of it, all
the more as products have thrown their code out of the caches: four times as long as in a loop by itself.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned import _kernel
from thinned.torch import _compat, _eager, _native
from thinned.torch._thin import _spare
from thinned.torch._thin._submatrix import Index, as_sparse, nothing, spread, take

_DTYPES = {torch.float32: _kernel.FLOAT32, torch.float64: _kernel.FLOAT64}


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
        rows: ascending numbers below height, at least one, int64; None for all.
        columns: likewise, below width.
        scale: the weight is multiplied by it.
        sparse: the weight's gradient is a sparse tensor of the rows.
    """
    sparse = sparse and rows is not None
    if _is_short(input, weight, bias):
        made: Tensor = _apply(input, weight, bias, rows, columns, scale, sparse)
        return made
    part = take(weight, rows, columns, scale, sparse, keeps_memory(input, weight))
    return F.linear(input, part, None if bias is None else take(bias, rows, None))


def keeps_memory(input: Tensor, weight: Tensor) -> bool:
    """Whether the memory of a weight's gradient is kept for the next one.

    It is memory beside the activations; where these are the larger part, a step would need more than without
    dropout, and page faults are a smaller part of it.
    """
    return input.numel() < weight.numel()


def _is_short(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    dtype = input.dtype
    return (
        dtype in _DTYPES
        and _kernel.linear_part is not None
        and _eager.applies(input)
        and all(one is None or (one.dtype is dtype and one.is_cpu) for one in (weight, bias))
        and all(one is None or one.is_contiguous() for one in (input, weight, bias))
        and (bias is None or bias.shape == weight.shape[:1])  # the kernel looks at no bounds
        and type(weight) in (Tensor, torch.nn.Parameter)
        and not weight.is_neg()
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
    ) -> Tensor:
        height, width = ctx.shape = weight.shape
        tall = height if rows is None else rows.shape[0]
        wide = width if columns is None else columns.shape[0]
        first, second = 0 if rows is None else rows.data_ptr(), 0 if columns is None else columns.data_ptr()
        kept = ctx.kept = (height, width, first, tall, second, wide, scale)
        ctx.rows, ctx.columns, ctx.sparse = rows, columns, sparse  # which keeps their memory too
        ctx.weight = weakref.ref(weight) if weight.is_leaf and keeps_memory(input, weight) else nothing
        part = torch.empty((tall, wide), dtype=weight.dtype, device="cpu")
        few = None if bias is None else torch.empty(tall, dtype=weight.dtype, device="cpu")
        _native._borrow_team()
        _kernel.linear_part(  # type: ignore[misc]
            *(_DTYPES[weight.dtype], weight.data_ptr(), part.data_ptr()),
            *((0, 0) if bias is None or few is None else (bias.data_ptr(), few.data_ptr())),
            *(*kept, torch.get_num_threads()),
        )
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(input, weight, part)
        else:  # a first layer's gradients ask for no weight
            ctx.save_for_backward(input)
        return F.linear(input, part, few)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.sparse or not _eager.applies(grad):
            made = _derivable(ctx, grad, *saved)
        elif torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                made = _gradients(ctx, grad, *saved)
        else:
            made = _gradients(ctx, grad, *saved)
        return (*made, None, None, None, None)


_apply = _compat.direct_apply(_Linear)


def _gradients(
    ctx: Any, grad: Tensor, input: Tensor, _weight: Any = None, part: Tensor | None = None
) -> tuple[Any, ...]:
    """Compute the kept part of a weight's gradient where it then gives way to zeros: in no other memory."""
    of_input = None if part is None else torch.matmul(grad, part)
    height, width, _rows, tall, _columns, wide, _scale = ctx.kept
    if grad.dim() != 2:
        grad, input = grad.reshape(-1, tall), input.reshape(-1, wide)
    grad = grad.contiguous()
    of_weight = of_bias = None
    if ctx.needs_input_grad[1]:
        weight = ctx.weight()
        if weight is None:
            of_weight = torch.empty((height, width), dtype=grad.dtype, device="cpu")
        else:
            of_weight = _spare.memory_for(weight, (height, width), grad.dtype)
        torch.mm(grad.t(), input, out=of_weight.as_strided((tall, wide), (wide, 1)))
    if ctx.needs_input_grad[2]:
        of_bias = torch.empty(height, dtype=grad.dtype, device="cpu")
    _kernel.linear_gradient(  # type: ignore[misc]
        *(_DTYPES[grad.dtype], 0 if of_weight is None else of_weight.data_ptr()),
        *(grad.data_ptr(), grad.shape[0], 0 if of_bias is None else of_bias.data_ptr()),
        *(*ctx.kept, torch.get_num_threads()),
    )
    return of_input, of_weight, of_bias


def _derivable(
    ctx: Any, grad: Tensor, input: Tensor, weight: Any = None, part: Tensor | None = None
) -> tuple[Any, ...]:
    """The same by functions with derivatives of their own, and for tensors that have no memory."""
    again, shape, scale = torch.is_grad_enabled(), tuple(ctx.shape), ctx.kept[-1]
    if part is not None and again:
        part = take(weight, ctx.rows, ctx.columns, scale)
    of_input = None if part is None else grad @ part
    left, right = grad.reshape(-1, grad.shape[-1]), input.reshape(-1, input.shape[-1])
    of_weight = of_bias = None
    if ctx.needs_input_grad[1]:
        placed = as_sparse if ctx.sparse and not again else spread
        of_weight = placed(left.mT @ right, ctx.rows, ctx.columns, scale, shape)
    if ctx.needs_input_grad[2]:
        of_bias = spread(left.sum(0), ctx.rows, None, 1.0, shape[:1])
    return of_input, of_weight, of_bias
