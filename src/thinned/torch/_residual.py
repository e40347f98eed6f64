"""The operators `thinned::dropout_add` and `thinned::dropout_add_norm` have a kernel on a GPU.

Only small tensors are saved beside the sum, which is a result: key, p, and two numbers a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch import _cuda, _inductor, _operands, _operator

_library = torch.library.Library("thinned", "FRAGMENT")

# Input and residual are contiguous and of one shape; weight and bias have `width` elements, the last ones of
# input's; p is one number; positions count from base. Results: normed, sum, and of each row its mean (none
# for RMS) and inverse scale.
_library.define(
    "dropout_add_norm(Tensor input, Tensor residual, Tensor? weight, Tensor? bias, Tensor key, Tensor p, "
    "float eps, bool rms, SymInt width, SymInt base=0) -> (Tensor, Tensor, Tensor, Tensor)"
)
# Gradients of input, residual, weight and bias; the last two are empty where there is none.
_library.define(
    "dropout_add_norm_backward(Tensor grad, Tensor grad_total, Tensor total, Tensor? weight, Tensor? bias, "
    "Tensor means, Tensor scales, Tensor key, Tensor p, bool rms, SymInt width, ScalarType input_dtype, "
    "ScalarType residual_dtype, SymInt base=0) -> (Tensor, Tensor, Tensor, Tensor)"
)

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def dropout_add_norm(input: Tensor, residual: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Call `thinned::dropout_add_norm`: normed, and the sum."""
    normed, total, _, _ = torch.ops.thinned.dropout_add_norm(input, residual, *rest)
    return normed, total


def _forward(
    input: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    key: Tensor,
    p: Tensor,
    eps: float,
    rms: bool,
    width: int,
    base: int = 0,
) -> Four:
    _check(input, residual, weight, bias, key, p)
    if _cuda.serves(input):
        from thinned.torch._triton import _launch_norm

        return _launch_norm.forward(input, residual, weight, bias, key, p, eps, rms, width, base)
    total = _operator.dropout_from(base, input, key, p) + residual
    means, scales = _statistics(total, eps, rms, width)
    rows = total.reshape(-1, width).to(_wide(total))
    normed = (rows if rms else rows - means[:, None]) * scales[:, None]
    normed = normed if weight is None else normed * weight
    normed = normed if bias is None else normed + bias
    return normed.to(total.dtype).reshape(total.shape), total, means, scales


def _forward_fake(input: Tensor, residual: Tensor, *rest: Any) -> Four:
    _inductor.tell()
    _check(input, residual, *rest[:4])
    rms, width = rest[5:7]
    total = torch.empty_like(input, dtype=torch.promote_types(input.dtype, residual.dtype))
    rows = input.numel() // width
    means, scales = (total.new_empty(n, dtype=_wide(total)) for n in (0 if rms else rows, rows))
    return torch.empty_like(total), total, means, scales


def _check(
    input: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, key: Tensor, p: Tensor
) -> None:
    beside = {"residual": residual, "weight": weight, "bias": bias}
    _operands.check("thinned::dropout_add_norm", input, key, p, **beside)


def _backward(grad: Tensor, grad_total: Tensor, total: Tensor, *rest: Any) -> Four:
    if not _cuda.serves(total):
        return _by_rows(grad, grad_total, total, *rest)
    from thinned.torch._triton import _launch_norm

    return _launch_norm.backward(grad.contiguous(), grad_total.contiguous(), total, *rest)


def _by_rows(
    grad: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    means: Tensor,
    scales: Tensor,
    key: Tensor,
    p: Tensor,
    rms: bool,
    width: int,
    input_dtype: torch.dtype,
    residual_dtype: torch.dtype,
    base: int = 0,
) -> Four:
    """The same in torch's operators, which have derivatives of their own."""
    g, rows = (t.reshape(-1, width).to(_wide(total)) for t in (grad, total))
    normed = (rows if rms else rows - means[:, None]) * scales[:, None]
    of_weight, of_bias = (
        total.new_empty(0) if t is None else s.sum(0).to(t.dtype)
        for t, s in ((weight, g * normed), (bias, g))
    )
    g = g if weight is None else g * weight
    d = g - normed * (g * normed).mean(1, keepdim=True)
    d = (d if rms else d - g.mean(1, keepdim=True)) * scales[:, None]
    d = (d.reshape(total.shape) + grad_total).to(total.dtype)
    of_input = _operator.dropout_from(base, d.to(input_dtype), key, p)
    return of_input, d.to(residual_dtype), of_weight, of_bias


def _backward_fake(
    grad: Tensor, grad_total: Tensor, total: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any
) -> Four:
    of_input, of_residual = (torch.empty_like(total, dtype=dtype) for dtype in rest[6:8])
    of_weight, of_bias = (total.new_empty(0) if t is None else torch.empty_like(t) for t in (weight, bias))
    return of_input, of_residual, of_weight, of_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Four) -> None:
    input, residual, weight, bias, key, p, eps, rms, width, base = inputs
    _, total, means, scales = output
    ctx.mark_non_differentiable(means, scales)
    ctx.save_for_backward(total, weight, bias, means, scales, key, p)
    ctx.eps = eps
    ctx.rest = rms, width, input.dtype, residual.dtype, base


def _differentiate(ctx: Any, grad: Tensor, grad_total: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    total, weight, bias, means, scales, key, p = ctx.saved_tensors
    if torch.is_grad_enabled():  # these gradients are to have gradients: so must what they are made of
        means, scales = _statistics(total, ctx.eps, *ctx.rest[:2])
        found = _by_rows(grad, grad_total, total, weight, bias, means, scales, key, p, *ctx.rest)
    else:
        found = torch.ops.thinned.dropout_add_norm_backward(
            *(grad, grad_total, total, weight, bias, means, scales, key, p), *ctx.rest
        )
    of_input, of_residual, of_weight, of_bias = found
    small = (None if t is None else g for t, g in ((weight, of_weight), (bias, of_bias)))
    return of_input, of_residual, *small, *(None,) * 6


def _statistics(total: Tensor, eps: float, rms: bool, width: int) -> tuple[Tensor, Tensor]:
    rows = total.reshape(-1, width).to(_wide(total))
    means = rows.new_empty(0) if rms else rows.mean(1)
    return means, torch.rsqrt((rows if rms else rows - means[:, None]).square().mean(1) + eps)


def _wide(total: Tensor) -> torch.dtype:
    return torch.float64 if total.dtype == torch.float64 else torch.float32


_library.impl("dropout_add_norm", _forward, "CompositeExplicitAutograd")
_library.impl("dropout_add_norm_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::dropout_add_norm", _forward_fake, lib=_library)
torch.library.register_fake("thinned::dropout_add_norm_backward", _backward_fake, lib=_library)
torch.library.register_autograd(
    "thinned::dropout_add_norm", _differentiate, setup_context=_setup, lib=_library
)


# Input and residual are contiguous and of one shape; p is one number; positions count from base.
_library.define("dropout_add(Tensor input, Tensor residual, Tensor key, Tensor p, SymInt base=0) -> Tensor")


def dropout_add(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int) -> Tensor:
    """Call `thinned::dropout_add`."""
    result: Tensor = torch.ops.thinned.dropout_add(input, residual, key, p, base)
    return result


def _add(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int = 0) -> Tensor:
    _operands.check("thinned::dropout_add", input, key, p, residual=residual)
    if not _cuda.serves(input):
        return _operator.dropout_from(base, input, key, p) + residual
    from thinned.torch._triton import _launch

    return _launch.add(input, residual, key, p, base)


def _add_fake(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int = 0) -> Tensor:
    _inductor.tell()
    _operands.check("thinned::dropout_add", input, key, p, residual=residual)
    return torch.empty_like(input, dtype=torch.promote_types(input.dtype, residual.dtype))


def _setup_add(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, residual, key, p, base = inputs
    ctx.save_for_backward(key, p)
    ctx.base, ctx.dtypes = base, (input.dtype, residual.dtype)


def _add_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    of_input, of_residual = ctx.dtypes
    again = _operator.dropout_from(ctx.base, grad.to(of_input), *ctx.saved_tensors)
    return again, grad.to(of_residual), None, None, None


_library.impl("dropout_add", _add, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::dropout_add", _add_fake, lib=_library)
torch.library.register_autograd("thinned::dropout_add", _add_backward, setup_context=_setup_add, lib=_library)
