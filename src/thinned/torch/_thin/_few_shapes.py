"""How the shape changes of a tensor of which only some heads are there: views, pieces, joints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from thinned.torch._thin._few_heads import FewHeads, HeadsError


def transpose(x: FewHeads, dim0: int, dim1: int) -> FewHeads:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(x, order)


def permute(x: FewHeads, *sizes: Any, dims: Any = None) -> FewHeads:
    rank = len(x.shape)
    several = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    given = dims if dims is not None else sizes[0] if several else sizes
    order = [dim % rank for dim in given]
    shape = [x.shape[dim] for dim in order]
    return x.of(x.part.permute(order), order.index(x.axis), shape)


def _pieces(x: FewHeads, sizes: list[int], dim: int) -> tuple[FewHeads, ...]:
    dim %= len(x.shape)
    shapes = [[*x.shape[:dim], size, *x.shape[dim + 1 :]] for size in sizes]
    if dim != x.axis:
        return tuple(
            x.of(piece, x.axis, shape) for piece, shape in zip(x.part.split(sizes, dim), shapes, strict=True)
        )
    each = x.heads * x.inner
    if any(size % each or not size for size in sizes):
        raise HeadsError("pieces that divide the heads")
    outers = [size // each for size in sizes]
    width = x.part.shape[dim] // x.outer
    parts = x.part.split([outer * width for outer in outers], dim)
    return tuple(
        x.of(piece, dim, shape, outer) for piece, shape, outer in zip(parts, shapes, outers, strict=True)
    )


def split(x: FewHeads, sizes: Any, dim: int = 0) -> tuple[FewHeads, ...]:
    if isinstance(sizes, int):
        count, rest = divmod(x.shape[dim], sizes)
        sizes = [sizes] * count + ([rest] if rest else [])
    return _pieces(x, list(sizes), dim)


def chunk(x: FewHeads, chunks: int, dim: int = 0) -> tuple[FewHeads, ...]:
    return split(x, -(-x.shape[dim] // chunks), dim)


def unbind(x: FewHeads, dim: int = 0) -> tuple[FewHeads, ...]:
    return tuple(without(x, dim, index) for index in range(x.shape[dim]))


def without(x: FewHeads, dim: int, index: int) -> FewHeads:
    dim %= len(x.shape)
    if dim == x.axis:
        raise HeadsError("a single head")
    shape = [*x.shape[:dim], *x.shape[dim + 1 :]]
    return x.of(x.part.select(dim, index), x.axis - (dim < x.axis), shape)


def item(x: FewHeads, index: Any) -> FewHeads:
    """An index of whole numbers, slices and None, whole along the heads."""
    given = list(index) if isinstance(index, tuple) else [index]
    if not all(one is None or one is Ellipsis or isinstance(one, (int, slice)) for one in given):
        raise HeadsError("an index that is no slice")
    missing = len(x.shape) - sum(one is not None and one is not Ellipsis for one in given)
    at = next((n for n, one in enumerate(given) if one is Ellipsis), len(given))
    given[at : at + 1] = [slice(None)] * missing
    axis, place, at = -1, 0, 0
    for one in given:
        if one is not None:
            if place == x.axis:
                if one != slice(None):
                    raise HeadsError("some of the heads")
                axis = at
            place += 1
        at += not isinstance(one, int)
    return x.of(x.part[tuple(given)], axis)


def unsqueeze(x: FewHeads, dim: int) -> FewHeads:
    dim %= len(x.shape) + 1
    return x.of(x.part.unsqueeze(dim), x.axis + (dim <= x.axis))


def squeeze(x: FewHeads, dim: int) -> FewHeads:
    dim %= len(x.shape)
    return x if x.shape[dim] != 1 or dim == x.axis else without(x, dim, 0)


def flatten(x: FewHeads, start_dim: int = 0, end_dim: int = -1) -> FewHeads:
    start, end = start_dim % len(x.shape), end_dim % len(x.shape)
    return x.reshaped(*x.shape[:start], x.shape[start : end + 1].numel(), *x.shape[end + 1 :])


def unflatten(x: FewHeads, dim: int, sizes: Any) -> FewHeads:
    dim %= len(x.shape)
    return x.reshaped(*x.shape[:dim], *_resolved(sizes, x.shape[dim]), *x.shape[dim + 1 :])


def _resolved(sizes: Any, size: int) -> list[int]:
    missing = size
    for one in sizes:
        missing = missing if one == -1 else missing // one
    return [missing if one == -1 else one for one in sizes]


def expand(x: FewHeads, *sizes: Any) -> FewHeads:
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    axis = x.axis + len(given) - len(x.shape)
    if given[axis] not in (-1, x.shape[x.axis]):
        raise HeadsError("expanded heads")
    return x.of(x.part.expand(*given[:axis], -1, *given[axis + 1 :]), axis)


def joined(tensors: Any, dim: int = 0, *, axis: int | None = None) -> FewHeads:
    """`torch.cat`, as rotations of the halves of each head need it."""
    x = next(one for one in tensors if isinstance(one, FewHeads))
    dim = (dim if axis is None else axis) % len(x.shape)
    same = all(isinstance(one, FewHeads) and one.axis == x.axis for one in tensors)
    if dim == x.axis or not same:
        raise HeadsError("tensors that are joined along the heads")
    return x.of(torch.cat([x.narrowed(one) for one in tensors], dim), x.axis)


def stacked(tensors: Any, dim: int = 0) -> FewHeads:
    x = next(one for one in tensors if isinstance(one, FewHeads))
    return joined([unsqueeze(one, dim % (len(x.shape) + 1)) for one in tensors], dim)


# What torch's functions and methods of these names are.
KNOWN: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "reshape"), FewHeads.reshaped),
    "view_as": lambda x, like: x.reshaped(*like.shape),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    "permute": permute,
    "size": lambda x, dim=None: x.shape if dim is None else x.shape[dim],
    "dim": lambda x: len(x.shape),
    "numel": lambda x: x.shape.numel(),
    "is_contiguous": lambda x: x.part.is_contiguous(),
    "split": split,
    "chunk": chunk,
    "tensor_split": lambda x, parts, dim=0: chunk(x, parts, dim),
    "unbind": unbind,
    "select": without,
    "getitem": item,
    "narrow": lambda x, dim, start, length: item(
        x, (*(slice(None),) * (dim % len(x.shape)), slice(start, start + length))
    ),
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "flatten": flatten,
    "unflatten": unflatten,
    "expand": expand,
    **dict.fromkeys(("cat", "concat"), joined),
    "stack": stacked,
}
