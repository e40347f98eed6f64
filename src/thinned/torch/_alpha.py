"""The operator `thinned::alpha_dropout`: alpha dropout in one pass, on a device with a kernel.

Its derivative is dropout by another factor, which the operator computes where `affine` is False. The backward
pass recomputes the mask, and saves nothing of the input's size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned._arguments import SELU_LIMIT as LIMIT
from thinned._position import positions
from thinned.torch import _cuda, _operator, _plain
from thinned.torch._autograd import self_adjoint
from thinned.torch._batching import Sizes, batched, noise_of

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define(
    "alpha_dropout(Tensor input, Tensor key, Tensor p, bool affine=True, SymInt[]? noise_shape=None, "
    "SymInt[]? global_shape=None, SymInt[]? start=None, SymInt[]? step=None) -> Tensor"
)


def alpha_dropout(input: Tensor, key: Tensor, p: Tensor, *rest: Any) -> Tensor:
    """Call `thinned::alpha_dropout`."""
    result: Tensor = torch.ops.thinned.alpha_dropout(input, key, p, True, *rest)
    return result


def affine(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`alpha_numbers` of each p, in double; zeros at p = 1."""
    rate = torch.round(_plain.double(p) * 2.0**32) / 2.0**32
    a = 1.0 / torch.sqrt((LIMIT * LIMIT * rate + 1.0) * (1.0 - rate))
    a = torch.where(rate < 1.0, a, 0.0)
    b = -a * LIMIT * rate
    return a, b, a * LIMIT + b


def _alpha_dropout(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    affine: bool = True,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
) -> Tensor:
    if not _cuda.serves(input):
        return _by_operators(input, key, p, affine, noise_shape, global_shape, start, step)
    from thinned.torch._triton import _launch

    shape = tuple(input.shape[key.dim() - 1 :])
    base, strides = positions(shape, noise_of(noise_shape), global_shape, start, step)
    kind = "alpha" if affine else "slope"
    return _launch.dropout(input, torch.empty_like(input), key, p, True, base, strides, kind)


def _by_operators(input: Tensor, key: Tensor, p: Tensor, shifted: bool, *place: Sizes) -> Tensor:
    wide = torch.promote_types(input.dtype, torch.float32)
    a, b, low = (n.to(wide).to(input.device) for n in affine(p))
    kept = _operator.dropout(torch.ones_like(input), key, p, False, *place) != 0
    value = input.to(wide) * a
    found = torch.where(kept, value + b, low) if shifted else torch.where(kept, value, 0.0)
    return torch.empty_like(input).copy_(found)


def _alpha_dropout_vmap(
    info: Any, in_dims: Any, input: Tensor, key: Tensor, p: Tensor, affine: bool = True, *shapes: Sizes
) -> tuple[Tensor, int]:
    input, key, p, *place = batched(info.batch_size, in_dims, input, key, p, *shapes)
    return torch.ops.thinned.alpha_dropout(input, key, p, affine, *place), 0


self_adjoint(
    *(_library, "alpha_dropout", _alpha_dropout, _alpha_dropout_vmap),
    derivative=lambda constants: (False, *constants[1:]),
)
