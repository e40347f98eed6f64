"""The operator `thinned::dropout_add`: dropout and the residual added to it, on a device with a kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch import _cuda, _operands, _operator

_library = torch.library.Library("thinned", "FRAGMENT")

# Input and residual are contiguous and of one shape; p is one number; positions count from base.
_library.define("dropout_add(Tensor input, Tensor residual, Tensor key, Tensor p, SymInt base=0) -> Tensor")


def dropout_add(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int) -> Tensor:
    """Call `thinned::dropout_add`."""
    result: Tensor = torch.ops.thinned.dropout_add(input, residual, key, p, base)
    return result


def _run(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int = 0) -> Tensor:
    _operands.check("thinned::dropout_add", input, key, p, residual=residual)
    if not _cuda.serves(input):
        return _operator.dropout_from(base, input, key, p) + residual
    from thinned.torch._triton import _launch

    return _launch.add(input, residual, key, p, base)


def _fake(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int = 0) -> Tensor:
    _operands.check("thinned::dropout_add", input, key, p, residual=residual)
    return torch.empty_like(input, dtype=torch.promote_types(input.dtype, residual.dtype))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, residual, key, p, base = inputs
    ctx.save_for_backward(key, p)
    ctx.base, ctx.dtypes = base, (input.dtype, residual.dtype)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    of_input, of_residual = ctx.dtypes
    again = _operator.dropout_from(ctx.base, grad.to(of_input), *ctx.saved_tensors)
    return again, grad.to(of_residual), None, None, None


_library.impl("dropout_add", _run, "CompositeExplicitAutograd")
torch.library.register_fake("thinned::dropout_add", _fake, lib=_library)
torch.library.register_autograd("thinned::dropout_add", _backward, setup_context=_setup, lib=_library)
