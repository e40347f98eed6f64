"""The kept rows and columns of a weight, with its gradient: gathered in one pass, scattered in one.

torch's own indexing takes 0.37 ms for a quarter of 1024 × 1024 and 0.85 ms for its gradient, where the
product with 128 rows takes 0.44 ms; the passes of `native/submatrix.cpp` a fifth of that.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned import _kernel
from thinned.torch import _compat, _eager, _native
from thinned.torch._site import traced
from thinned.torch._thin import _spare

Index = Tensor | None


def nothing() -> None:
    """Stands for a weak reference to what is no weight."""


def take(
    whole: Tensor,
    rows: Index,
    columns: Index,
    scale: float = 1.0,
    sparse: bool = False,
    reuse: bool = True,
) -> Tensor:
    """`scale · whole[rows][:, columns]`, of a tensor of at least one dimension.

    Args:
        whole: (height, width, …); its gradient is dense, 0 where nothing was taken.
        rows: ascending numbers, int64; None for all.
        columns: likewise, of the second dimension.
        scale: what is taken is multiplied by it.
        sparse: the gradient is a sparse tensor of the rows that were taken.
        reuse: the gradient's memory may be kept for the next one.
    """
    if rows is None and columns is None and scale == 1.0:
        return whole
    if traced():
        return _scaled(_select(whole, rows, columns), scale, own=False)
    made: Tensor = _apply(whole, rows, columns, scale, sparse and rows is not None, reuse)
    return made


def spread(
    part: Tensor,
    rows: Index,
    columns: Index,
    scale: float,
    shape: tuple[int, ...],
    weight: Tensor | None = None,
) -> Tensor:
    """A tensor of this shape, `scale · part` in the rows and columns and 0 elsewhere: `take` transposed.

    Of a `weight` it is the gradient, in memory that serves for the next one too.
    """
    if traced():
        return _scaled(_placed(part, rows, columns, shape), scale, own=False)
    made: Tensor = _apply_spread(part, rows, columns, scale, shape, weight)
    return made


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, whole: Tensor, rows: Index, columns: Index, scale: float, sparse: bool, reuse: bool
    ) -> Tensor:
        ctx.how = rows, columns, scale, tuple(whole.shape)
        ctx.sparse = sparse
        ctx.weight = weakref.ref(whole) if reuse and whole.is_leaf else nothing
        return gathered(whole, rows, columns, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        rows, columns, scale, shape = ctx.how
        if torch.is_grad_enabled():  # it will be derived itself
            whole = spread(grad, *ctx.how)
        elif ctx.sparse:
            whole = as_sparse(grad, rows, columns, scale, shape)
        else:
            whole = spread(grad, rows, columns, scale, shape, ctx.weight())
        return whole, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, whole: Tensor, *_: Any) -> Tensor:
        rows, columns, scale, _shape = ctx.how
        return _scaled(_select(whole, rows, columns), scale, own=False)


def take_many(
    whole: Tensor, rows: Sequence[Index], columns: Sequence[Index], scale: float, reuse: bool
) -> tuple[Tensor, ...]:
    """`take` of several parts in one reading; they have one gradient, to which each adds."""
    if traced():
        return tuple(take(whole, *one, scale, False, reuse) for one in zip(rows, columns, strict=True))
    made: tuple[Tensor, ...] = _apply_many(whole, rows, columns, scale, reuse)
    return made


class _TakeMany(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, whole: Tensor, rows: Sequence[Index], columns: Sequence[Index], scale: float, reuse: bool
    ) -> tuple[Tensor, ...]:
        ctx.parts, ctx.scale, ctx.shape = list(zip(rows, columns, strict=True)), scale, tuple(whole.shape)
        ctx.weight = weakref.ref(whole) if reuse and whole.is_leaf else nothing
        return tuple(gathered_many(whole, rows, columns, scale))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        again = torch.is_grad_enabled() or not all(map(_is_native, grads))
        whole: Any = None
        for grad, (rows, columns) in zip(grads, ctx.parts, strict=True):
            if whole is None:
                whole = spread(grad, rows, columns, ctx.scale, ctx.shape, None if again else ctx.weight())
            elif again:
                whole = whole + spread(grad, rows, columns, ctx.scale, ctx.shape)
            elif grad.numel():
                _move(_kernel.put, whole, grad.contiguous(), rows, columns, ctx.scale, add=True)
        return whole, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, whole: Tensor, *_: Any) -> tuple[Tensor, ...]:
        return tuple(_scaled(_select(whole, *kept), ctx.scale, own=False) for kept in ctx.parts)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        part: Tensor,
        rows: Index,
        columns: Index,
        scale: float,
        shape: tuple[int, ...],
        weight: Tensor | None,
    ) -> Tensor:
        ctx.how, ctx.shape = (rows, columns, scale), shape
        if not _is_native(part):
            placed = _placed(part, rows, columns, shape)
            return _scaled(placed, scale, own=placed is not part)
        whole = _spare.memory_for(weight, shape, part.dtype)
        _move(_kernel.put, whole, part.contiguous(), rows, columns, scale)
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return take(grad, *ctx.how), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, part: Tensor, *_: Any) -> Tensor:
        rows, columns, scale = ctx.how
        return _scaled(_placed(part, rows, columns, ctx.shape), scale, own=False)


_apply = _compat.direct_apply(_Take)
_apply_many = _compat.direct_apply(_TakeMany)
_apply_spread = _compat.direct_apply(_Spread)


def _is_native(tensor: Tensor) -> bool:
    return _kernel.take is not None and _eager.applies(tensor) and tensor.dtype in _native.DTYPES


def _select(whole: Tensor, rows: Index, columns: Index) -> Tensor:
    if rows is not None:
        whole = whole.index_select(0, rows)
    return whole if columns is None else whole.index_select(1, columns)


def _placed(part: Tensor, rows: Index, columns: Index, shape: tuple[int, ...]) -> Tensor:
    inner = part
    if columns is not None:
        inner = part.new_zeros((part.shape[0], *shape[1:])).index_copy(1, columns, part)
    return inner if rows is None else part.new_zeros(shape).index_copy(0, rows, inner)


def _scaled(tensor: Tensor, scale: float, own: bool = True) -> Tensor:
    if scale == 1.0:
        return tensor
    return tensor.mul_(scale) if own and tensor._base is None else tensor * scale


def gathered(whole: Tensor, rows: Index, columns: Index, scale: float) -> Tensor:
    """`take` for a function that knows its own gradient."""
    if rows is None and columns is None and scale == 1.0:
        return whole.detach()
    if not _is_native(whole):
        part = _select(whole, rows, columns)
        return _scaled(part, scale, own=part is not whole)
    shape = list(whole.shape)
    for axis, kept in enumerate((rows, columns)):
        if kept is not None:
            shape[axis] = kept.shape[0]
    part = torch.empty(shape, dtype=whole.dtype, device="cpu")
    _move(_kernel.take, whole, part, rows, columns, scale)
    return part


def gathered_many(
    whole: Tensor, rows: Sequence[Index], columns: Sequence[Index], scale: float
) -> list[Tensor]:
    """`gathered` of many parts of one tensor, which is read once for all of them."""
    if not _is_native(whole) or not whole.numel():
        return [gathered(whole, *one, scale) for one in zip(rows, columns, strict=True)]
    _native._borrow_team()
    whole = whole.detach().contiguous()
    height, width = whole.shape[:2]
    along = [addressed(one, height) for one in rows]
    across = [addressed(one, width) for one in columns]
    sizes = [(tall, wide) for (_, tall), (_, wide) in zip(along, across, strict=True)]
    parts = [torch.empty((*size, *whole.shape[2:]), dtype=whole.dtype, device="cpu") for size in sizes]
    some = [k for k, size in enumerate(sizes) if all(size)]  # the address of no numbers is that of all
    _kernel.take_many(  # type: ignore[misc]
        *(_native.DTYPES[whole.dtype], whole.data_ptr(), (height, width, math.prod(whole.shape[2:]))),
        [parts[k].data_ptr() for k in some],
        *([one[k][place] for k in some] for one in (along, across) for place in (0, 1)),
        *(scale, torch.get_num_threads()),
    )
    return parts


def as_sparse(part: Tensor, rows: Any, columns: Index, scale: float, shape: tuple[int, ...]) -> Tensor:
    """A sparse gradient, of the rows alone."""
    whole = columns is None and scale == 1.0
    values = part if whole else spread(part, None, columns, scale, (len(rows), *shape[1:]))
    if len(rows) == 1:  # to add one row to a dense tensor torch reads its first stride, which may be any
        values = values.reshape(-1).view(1, *shape[1:])
    return torch.sparse_coo_tensor(rows[None], values, shape, is_coalesced=True, check_invariants=False)


def addressed(kept: Index, size: int) -> tuple[int, int]:
    """The address of kept numbers, 0 for all, and how many they are; the kernel refuses others."""
    return (0, size) if kept is None else (kept.data_ptr(), kept.shape[0])


def _move(
    run: Any, whole: Tensor, part: Tensor, rows: Index, columns: Index, scale: float, add: bool = False
) -> None:
    """One pass of the kernel between a tensor and a part of it."""
    _native._borrow_team()
    if not part.numel():
        if run is not _kernel.take:
            whole.zero_()
        return
    whole = whole.detach().contiguous()
    if whole.dim() == 1:  # as one row: vectors go along it
        whole, rows, columns = whole[None], None, rows
    height, width = whole.shape[:2]
    inner = math.prod(whole.shape[2:])
    wide, count = addressed(columns, width)
    run(
        *(_native.DTYPES[whole.dtype], whole.data_ptr(), part.detach().data_ptr(), (height, width, inner)),
        *(*addressed(rows, height), wide, count, count * inner, scale),
        *(() if run is _kernel.take else (add,)),
        torch.get_num_threads(),
    )
