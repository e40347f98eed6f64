"""A kernel that writes by address makes here the checks of torch's in-place operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned._overlap import overlaps_itself
from thinned.torch import _compat


def check(input: Tensor) -> None:
    """Refuse what is not to be written to. torch refuses some of it when the damage is done.

    Raises:
        RuntimeError: `Inplace update to inference tensor outside InferenceMode is not allowed …`.
        ValueError: `inplace=True needs elements that do not share memory, got …`.
    """
    if input.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed: pass input.clone() or "
            "inplace=False"
        )
    if not input.is_contiguous() and overlaps_itself(tuple(input.shape), input.stride()):
        raise ValueError(
            f"inplace=True needs elements that do not share memory, got shape {tuple(input.shape)} with "
            f"strides {tuple(input.stride())}: pass input.clone() or inplace=False"
        )


def into(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """The result; in place copied to the input, which torch checks before it writes."""
    return input.copy_(result) if inplace else result


def announce(input: Tensor, again: Callable[..., Tensor], *saved: Tensor) -> Tensor:
    """Tell autograd that a kernel is about to write to the tensor, where torch would be told.

    It comes before the write: what torch refuses, a leaf that requires a gradient, say, is left as it was.
    What was saved for another gradient is from now on another version, and its use an error.

    Args:
        input: what is written to.
        again: the derivative, linear: from an upstream gradient, or a tangent, and `saved` to input's.
        *saved: tensors that the derivative reads; to change them in the meantime is an error.

    Returns:
        The tensor to write to, which is the result too.

    Raises:
        RuntimeError: torch's own words.
    """
    if (input.requires_grad and torch.is_grad_enabled()) or _compat.forward_derivatives():
        result: Tensor = _apply(input, again, *saved)
        return result
    torch.autograd.graph.increment_version(input)
    return input


class _Announced(torch.autograd.Function):
    """The derivative of a write that is still to come, in both modes."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, again: Callable[..., Tensor], *saved: Tensor) -> Tensor:
        ctx.mark_dirty(input)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.again = again
        return input

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.again(grad, *ctx.saved_tensors), None, *(None for _ in ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent.copy_(ctx.again(tangent, *ctx.saved_tensors))


_apply = _compat.direct_apply(_Announced)
