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
from thinned.torch._thin._submatrix import Index, addressed, as_sparse, nothing, spread, take

# With more rows BLAS is faster: products of 1,024 by 512 by 512 take 0.85 of the time, of 128 as long.
_ROWS = 256


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
    if _fits(input, weight, bias, columns) and _is_short(input, weight, bias):
        made: Tensor = _apply(input, weight, bias, rows, columns, scale, sparse)
        return made
    part = take(weight, rows, columns, scale, sparse, keeps_memory(input, weight))
    return F.linear(input, part, None if bias is None else take(bias, rows, None))


def keeps_memory(input: Tensor, weight: Tensor) -> bool:
    """Whether the memory of a weight's gradient is kept for the next one.

    It is memory beside the activations; where these are the larger part, a step would need more than without
    dropout, and page faults are a smaller part of it. A first layer's gradient is made last, when activations
    are gone.
    """
    return input.requires_grad and 4 * input.numel() < weight.numel()


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None, columns: Index) -> bool:
    """Whether shapes go together: the kernel looks at no bounds. Torch says what is wrong with others."""
    shape = weight.shape
    return (
        len(shape) == 2
        and input.shape[-1] == (shape[1] if columns is None else columns.shape[0]) > 0
        and (bias is None or bias.shape == shape[:1])
    )


def _is_short(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        _eager.applies(input)
        and _kernel.multiplies()
        and input.numel() <= _ROWS * input.shape[-1]
        and is_plain(input)
        and is_plain(weight)
        and (bias is None or is_plain(bias))
        and not _compat.forward_derivatives()
        and not torch.is_autocast_enabled("cpu")
    )


def is_plain(tensor: Tensor) -> bool:
    """Whether the kernel may go by its address: float32, in memory of its own order."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.dtype is torch.float32
        and tensor.layout is torch.strided
        and tensor.is_cpu
        and tensor.is_contiguous()
        and not tensor.is_neg()
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
        shape = ctx.shape = weight.shape
        ctx.given = input.shape
        height, width = shape
        (first, tall), (second, wide) = addressed(rows, height), addressed(columns, width)
        kept = ctx.kept = shape, first, tall, second, wide, scale, input.numel() // wide
        ctx.rows, ctx.columns = rows, columns  # which keeps their memory too
        ctx.scale, ctx.sparse = scale, sparse
        ctx.weight = weakref.ref(weight) if weight.is_leaf and keeps_memory(input, weight) else nothing
        out = torch.empty((*input.shape[:-1], tall), dtype=torch.float32, device="cpu")
        _native._borrow_team()
        _kernel.linear(  # type: ignore[misc]
            *(weight.data_ptr(), *kept, input.data_ptr(), 0 if bias is None else bias.data_ptr()),
            *(out.data_ptr(), torch.get_num_threads()),
        )
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(input, weight)
        else:  # a first layer's gradients ask for no weight
            ctx.save_for_backward(input)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        short = not torch.is_grad_enabled() and _eager.applies(grad)
        # Hooks and `weight.data = …` may have put others in their place.
        short = short and grad.dtype is torch.float32 and all(map(is_plain, saved))
        short = short and saved[0].shape == ctx.given and all(one.shape == ctx.shape for one in saved[1:])
        short = short and grad.shape == (*ctx.given[:-1], ctx.kept[2])
        made = (_gradients if short else _derivable)(ctx, grad, *saved)
        return (*made, None, None, None, None)


_apply = _compat.direct_apply(_Linear)


def _gradients(ctx: Any, grad: Tensor, input: Tensor, weight: Tensor | None = None) -> tuple[Any, ...]:
    of_input = of_weight = of_bias = None
    grad = grad.contiguous()
    if weight is not None:
        of_input = torch.empty(input.shape, dtype=torch.float32, device="cpu")
    if ctx.needs_input_grad[1] and not ctx.sparse:
        of_weight = _spare.memory_for(ctx.weight(), ctx.shape, torch.float32)
    if ctx.needs_input_grad[2]:
        of_bias = torch.empty(ctx.shape[0], dtype=torch.float32, device="cpu")
    _kernel.linear_gradients(  # type: ignore[misc]
        *(0 if weight is None else weight.data_ptr(), *ctx.kept, grad.data_ptr(), input.data_ptr()),
        *(0 if one is None else one.data_ptr() for one in (of_input, of_weight, of_bias)),
        torch.get_num_threads(),
    )
    if ctx.needs_input_grad[1] and ctx.sparse:
        of_weight = _sparse_gradient(ctx, grad, input)
    return of_input, of_weight, of_bias


def _sparse_gradient(ctx: Any, grad: Tensor, input: Tensor) -> Tensor:
    """The weight's, of whose kept rows the kernel makes all: a weight that has no others."""
    (height, width), _, tall, *columns, batch = ctx.kept
    values = torch.empty((tall, width), dtype=torch.float32, device="cpu")
    _kernel.linear_gradients(  # type: ignore[misc]
        *(0, (tall, width), 0, tall, *columns, batch, grad.data_ptr(), input.data_ptr()),
        *(0, values.data_ptr(), 0, torch.get_num_threads()),
    )
    return as_sparse(values, ctx.rows, None, 1.0, (height, width))


def _derivable(ctx: Any, grad: Tensor, input: Tensor, weight: Tensor | None = None) -> tuple[Any, ...]:
    """The same by functions with derivatives of their own, and for tensors that have no memory."""
    rows, columns, scale, shape = ctx.rows, ctx.columns, ctx.scale, tuple(ctx.shape)
    of_input = None if weight is None else grad @ take(weight, rows, columns, scale)
    left, right = grad.reshape(-1, grad.shape[-1]), input.reshape(-1, input.shape[-1])
    of_weight = of_bias = None
    if ctx.needs_input_grad[1]:
        placed = as_sparse if ctx.sparse and not torch.is_grad_enabled() else spread
        of_weight = placed(left.mT @ right, rows, columns, scale, shape)
    if ctx.needs_input_grad[2]:
        of_bias = spread(left.sum(0), rows, None, 1.0, shape[:1])
    return of_input, of_weight, of_bias
