"""A linear map of many small groups, as one product of whole rows with zeros where a group keeps nothing.

Each group's part of a weight is read for a product with its few rows, and its gradient added to the others':
with 8 rows of 1,024 by 1,024 this took nine times as long as the whole product.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned import _kernel
from thinned.torch import _compat, _eager, _native
from thinned.torch._thin._kept import Kept


def bounds(rows: int, groups: int) -> list[int]:
    """Where each group begins, and the last ends: row r is in group r · groups // rows."""
    return [-(-group * rows // groups) for group in range(groups + 1)]


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, out: Kept | None, inward: Kept | None
) -> Tensor:
    """`F.linear` on what each group keeps: of rows with zeros between, and of its rows what the next keep."""
    if inward is not None:
        input = _apply(input, inward, inward.scale, True)
    made = F.linear(input, weight, bias)
    return made if out is None else _apply(made, out, 1.0, False)


def taken(input: Tensor, kept: Kept) -> Tensor:
    """What each group keeps of the last dimension, filled up with zeros where others keep more."""
    made: Tensor = _apply(input, kept, 1.0, False)
    return made


class _Move(torch.autograd.Function):
    """Kept features to their places among all, with zeros between; or from there side by side."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, kept: Kept, scale: float, spread: bool) -> Tensor:
        ctx.how = kept, scale, not spread
        return _moved(input, kept, scale, spread)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return _apply(grad, *ctx.how), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        kept, scale, taken = ctx.how
        return _moved(tangent, kept, scale, not taken)


_apply = _compat.direct_apply(_Move)


def _moved(input: Tensor, kept: Kept, scale: float, spread: bool) -> Tensor:
    given, size = (kept.width, kept.size) if spread else (kept.size, kept.width)
    if input.shape[-1] != given:  # the kernel looks at no bounds
        raise RuntimeError(
            f"a thin site that keeps some of {kept.size} units was given {input.shape[-1]}, not {given}: "
            "change sizes between unthin(model) and thin(model)"
        )
    at = bounds(input.shape[0], len(kept.parts))
    parts = [(at[g], at[g + 1], numbers) for g, numbers in enumerate(kept.beside(input))]
    if not (_kernel.take is not None and _eager.applies(input) and input.dtype in _native.DTYPES):
        return torch.cat([_of_group(input[a:b], numbers, size, spread) for a, b, numbers in parts]) * scale
    input = input.detach().contiguous()
    each = math.prod(input.shape[1:-1])
    filled = spread and not kept.empty  # by the kernel, which writes the zeros between too
    make = torch.empty if filled else torch.zeros
    made = make((*input.shape[:-1], size), dtype=input.dtype, device="cpu")
    _native._borrow_team()
    step, wide = input.element_size() * each, (kept.size, kept.width)
    for a, b, numbers in parts:
        rows, count = (b - a) * each, numbers.numel()
        if not (rows and count):
            continue
        source, to = input.data_ptr() + a * step * input.shape[-1], made.data_ptr() + a * step * size
        whole, part = (to, source) if spread else (source, to)
        run, more = (_kernel.put, (False,)) if spread else (_kernel.take, ())
        run(  # type: ignore[misc]
            *(_native.DTYPES[input.dtype], whole, part, (rows, wide[0], 1), 0, rows),
            *(numbers.data_ptr(), count, wide[1], scale, *more, torch.get_num_threads()),
        )
    return made


def _of_group(rows: Tensor, numbers: Tensor, size: int, spread: bool) -> Tensor:
    count = len(numbers)
    if spread:
        return rows.new_zeros(*rows.shape[:-1], size).index_copy(-1, numbers, rows[..., :count])
    return F.pad(rows.index_select(-1, numbers), (0, size - count))
