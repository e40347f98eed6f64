"""A convolution of what is kept, as one function for autograd, with one call of the kernel each way.

The numbers of kept channels are others in each step. oneDNN compiles code for each pair of them and is slower
where they are no multiple of 16. The kernel's vectors go along pixels, which any number of channels fills.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from thinned import _kernel
from thinned.torch import _compat, _eager, _native
from thinned.torch._thin import _groups, _linear, _spare
from thinned.torch._thin._kept import Kept
from thinned.torch._thin._submatrix import Index, addressed, nothing, spread, take

Numbers = tuple[int, ...]  # of each axis
_MOST = 1 << 30  # elements of an image with its padding: the kernel counts them in 32 bits
# With AVX2 oneDNN is faster for many channels of few pixels. A step with 128 of 256 channels of 5 × 5 takes
# 0.62 of the time without dropout, and here 0.78; of 7 × 7 0.56 and 0.59; with 64 of 128 of 8 × 8 0.69 and
# 0.53. With AVX-512 it is not.
_FEW_PIXELS, _MANY_CHANNELS = 50, 90 * 90


def convolution(conv: Any, input: Tensor, out: Kept | None, inward: Kept | None) -> Tensor | None:
    """A layer's convolution by the kernel.

    Args:
        conv: a Conv1d or Conv2d.
        input: of the channels that `inward` keeps.
        out: what is kept of the output; None for everything.
        inward: likewise of the input.

    Returns:
        None where the kernel does not serve it.
    """
    how = _how(conv)
    if how is None or not _is_served(conv, input, out, inward, how[1]):
        return None
    _groups.check_sizes(conv.weight, out, inward)
    rows, columns = (None if kept is None else kept.parts[0] for kept in (out, inward))
    scale = 1.0 if inward is None else inward.scale
    if len(how[0]) == 2:
        return _apply(input, conv.weight, conv.bias, rows, columns, scale, how)  # type: ignore[no-any-return]
    one_row = tuple((rest, *of) for rest, of in zip((1, 0, 1), how, strict=True))
    return _apply(input.unsqueeze(2), conv.weight, conv.bias, rows, columns, scale, one_row).squeeze(2)  # type: ignore[no-any-return]


def _how(conv: Any) -> tuple[Numbers, Numbers, Numbers] | None:
    """Stride, padding and dilation; None where there are more zeros on one side than on the other.

    None too for what a caller has set since and torch reads otherwise, or refuses: one number for all axes,
    or a negative one.
    """
    padding, axes = conv.padding, conv.weight.dim() - 2
    if not (_are_numbers(conv.stride, axes, 1) and _are_numbers(conv.dilation, axes, 1)):
        return None
    if padding == "valid":
        padding = (0,) * axes
    elif padding == "same":
        around = [d * (k - 1) for d, k in zip(conv.dilation, conv.weight.shape[2:], strict=True)]
        if any(n % 2 for n in around) or any(n > 1 for n in conv.stride):
            return None
        padding = tuple(n // 2 for n in around)
    return (conv.stride, padding, conv.dilation) if _are_numbers(padding, axes, 0) else None


def _are_numbers(given: Any, axes: int, least: int) -> bool:
    return type(given) in (tuple, list) and len(given) == axes and min(given, default=least) >= least


def _is_served(conv: Any, input: Tensor, out: Kept | None, inward: Kept | None, padding: Numbers) -> bool:
    weight, bias = conv.weight, conv.bias
    return (
        input.dtype is torch.float32
        and weight.dim() in (3, 4)
        and input.dim() == weight.dim()
        and _kernel.convolves()
        and _eager.applies(input)
        and input.numel() > 0
        and input.is_contiguous()
        and conv.padding_mode == "zeros"
        and all(kept is None or (len(kept.parts) == 1 and kept.parts[0].shape[0]) for kept in (out, inward))
        and all(one is None or _linear.is_plain(one) for one in (weight, bias))
        and (bias is None or bias.shape == weight.shape[:1])  # the kernel looks at no bounds
        and input.shape[1] == (weight.shape[1] if inward is None else inward.parts[0].shape[0])
        and not _compat.forward_derivatives()
        and not torch.is_autocast_enabled("cpu")
        and _fits(conv, input, padding)
        and not (_is_small(conv, input, out) and _kernel.path() == "avx2")
    )


def _fits(conv: Any, input: Tensor, padding: Numbers) -> bool:
    padded = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
    least = (d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.weight.shape[2:], strict=True))
    return (
        all(n >= m for n, m in zip(padded, least, strict=True)) and math.prod(padded) * input.shape[1] < _MOST
    )


def _is_small(conv: Any, input: Tensor, out: Kept | None) -> bool:
    tall = conv.weight.shape[0] if out is None else out.parts[0].shape[0]
    return math.prod(input.shape[2:]) < _FEW_PIXELS and input.shape[1] * tall > _MANY_CHANNELS


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Index,
        columns: Index,
        scale: float,
        how: tuple[Numbers, Numbers, Numbers],
    ) -> Tensor:
        taps: Any = (1, *weight.shape[2:])[-2:]
        height, width = weight.shape[:2]
        (first, tall), (second, wide) = addressed(rows, height), addressed(columns, width)
        kept = ctx.kept = (height, width, first, tall, second, wide, scale)
        made = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(input.shape[2:], taps, *how, strict=True)
        ]
        sizes = (input.shape[0], *input.shape[2:], *made, *taps, *how[0], *how[1], *how[2])
        ctx.rows, ctx.columns, ctx.how, ctx.sizes = rows, columns, how, sizes
        ctx.weight = (
            weakref.ref(weight) if weight.is_leaf and _linear.keeps_memory(input, weight) else nothing
        )
        ctx.shape = tuple(weight.shape)
        part = torch.empty((tall, wide, *taps), dtype=torch.float32, device="cpu")
        out = torch.empty((input.shape[0], tall, *made), dtype=torch.float32, device="cpu")
        _native._borrow_team()
        _kernel.convolution(  # type: ignore[misc]
            *(sizes, input.data_ptr(), out.data_ptr(), weight.data_ptr(), part.data_ptr()),
            *(0 if bias is None else bias.data_ptr(), *kept, torch.get_num_threads()),
        )
        ctx.save_for_backward(input, weight, part)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        input, weight, part = ctx.saved_tensors
        batch, tall, wide = ctx.sizes[0], ctx.kept[3], ctx.kept[5]
        ours = not torch.is_grad_enabled() and _eager.applies(grad) and grad.dtype is torch.float32
        # Hooks may have put others in their place.
        ours = ours and _linear.is_plain(input) and input.shape == (batch, wide, *ctx.sizes[1:3])
        ours = ours and _linear.is_plain(part) and part.shape == (tall, wide, *ctx.sizes[5:7])
        ours = ours and grad.shape == (batch, tall, *ctx.sizes[3:5])
        made = (_gradients if ours else _derivable)(ctx, grad, input, weight, part)
        return (*made, None, None, None, None)


_apply = _compat.direct_apply(_Convolution)


def _gradients(ctx: Any, grad: Tensor, input: Tensor, _weight: Any, part: Tensor) -> tuple[Any, ...]:
    grad = grad.contiguous()
    of_input = of_weight = of_bias = None
    if ctx.needs_input_grad[0]:
        of_input = torch.empty_like(input, memory_format=torch.contiguous_format)
    if ctx.needs_input_grad[1]:
        of_weight = _spare.memory_for(ctx.weight(), ctx.shape, torch.float32)
    if ctx.needs_input_grad[2]:
        of_bias = torch.empty(ctx.shape[:1], dtype=torch.float32, device="cpu")
    _native._borrow_team()
    _kernel.convolution_gradients(  # type: ignore[misc]
        *(ctx.sizes, grad.data_ptr(), input.data_ptr(), part.data_ptr()),
        *(0 if one is None else one.data_ptr() for one in (of_input, of_weight, of_bias)),
        *(*ctx.kept, torch.get_num_threads()),
    )
    return of_input, of_weight, of_bias


def _derivable(ctx: Any, grad: Tensor, input: Tensor, weight: Tensor, part: Tensor) -> tuple[Any, ...]:
    """The same by functions with derivatives of their own, and for tensors that have no memory."""
    scale = ctx.kept[-1]
    if torch.is_grad_enabled():
        part = take(weight, ctx.rows, ctx.columns, scale).reshape(part.shape)
    wanted = list(ctx.needs_input_grad[:3])
    of_input, of_weight, of_bias = torch.ops.aten.convolution_backward(
        grad, input, part, [part.shape[0]], *ctx.how, False, [0, 0], 1, wanted
    )
    if of_weight is not None:
        few = of_weight.reshape(*of_weight.shape[:2], *ctx.shape[2:])
        of_weight = spread(few, ctx.rows, ctx.columns, scale, ctx.shape)
    if of_bias is not None:
        of_bias = spread(of_bias, ctx.rows, None, 1.0, ctx.shape[:1])
    return of_input, of_weight, of_bias
