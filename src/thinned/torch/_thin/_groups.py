"""A batch in groups, of which each has its own thinned network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned.torch import _compat
from thinned.torch._site import traced
from thinned.torch._thin import _linear, _whole
from thinned.torch._thin._kept import Kept
from thinned.torch._thin._submatrix import gathered, take, take_many
from thinned.torch._thin._whole import bounds

# With so many rows a group or fewer whole products take less time.
_FEW = 64


def block(
    weight: Tensor,
    out: Kept | None,
    inward: Kept | None,
    group: int,
    sparse: bool = False,
    reuse: bool = True,
) -> Tensor:
    """A weight's rows and columns in one group, filled up with zeros where other groups keep more."""
    check_sizes(weight, out, inward)
    rows = None if out is None else out.on(weight.device)[group]
    columns = None if inward is None else inward.on(weight.device)[group]
    part = take(weight, rows, columns, 1.0 if inward is None else inward.scale, sparse, reuse)
    return _filled(part, out, inward)


def blocks(weight: Tensor, out: Kept | None, inward: Kept | None, sparse: bool, reuse: bool) -> list[Tensor]:
    """The same in all groups."""
    groups = groups_of(out, inward)
    if sparse:
        return [block(weight, out, inward, group, True, reuse) for group in range(groups)]
    check_sizes(weight, out, inward)
    rows, columns = ((None,) * groups if kept is None else kept.beside(weight) for kept in (out, inward))
    parts = take_many(weight, rows, columns, 1.0 if inward is None else inward.scale, reuse)
    return [_filled(part, out, inward) for part in parts]


def _filled(part: Tensor, out: Kept | None, inward: Kept | None) -> Tensor:
    below = 0 if out is None else out.width - part.shape[0]
    right = 0 if inward is None else inward.width - part.shape[1]
    if right:
        part = F.pad(part, (*(0, 0) * (part.dim() - 2), 0, right))
    if below and out is not None:
        wide = part.unflatten(0, (out.outer, part.shape[0] // out.outer))
        part = F.pad(wide, (*(0, 0) * (part.dim() - 1), 0, below // out.outer)).flatten(0, 1)
    return part


def check_sizes(weight: Tensor, out: Kept | None, inward: Kept | None) -> None:
    """Refuse a weight of another size than its sites decide for."""
    for axis, kept in enumerate((out, inward)):
        if kept is not None and kept.size != weight.shape[axis]:
            raise RuntimeError(
                f"a weight of shape {tuple(weight.shape)} beside a thin site that decides for {kept.size} in "
                f"dimension {axis}: change sizes between unthin(model) and thin(model)"
            )


def groups_of(out: Kept | None, inward: Kept | None) -> int:
    """How many groups there are."""
    return len((out or inward).parts)  # type: ignore[union-attr]


def without_empty(input: Tensor, kept: Kept, rows_first: bool = True) -> Tensor:
    """The input with zeros where a group keeps nothing: what stands there is no unit's, and may be NaN."""
    if not kept.empty:
        return input
    at = bounds(input.shape[0], len(kept.parts))
    gone = torch.zeros(input.shape[0], dtype=torch.bool, device=input.device)
    for group, part in enumerate(kept.parts):
        gone[at[group] : at[group + 1]] = not len(part)
    return input.masked_fill(gone.reshape(-1, *(1,) * (input.dim() - 1)), 0)


def each(input: Tensor, groups: int, call: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A call for each group's rows, one below the other."""
    if groups == 1:
        return call(input, 0)
    if not input.shape[0]:
        return call(input, 0)
    at = bounds(input.shape[0], groups)
    return torch.cat([call(input[at[g] : at[g + 1]], g) for g in range(groups) if at[g] < at[g + 1]])


def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Kept | None,
    inward: Kept | None,
    sparse: bool = False,
) -> Tensor:
    """`F.linear` on what is kept."""
    groups = groups_of(out, inward)
    if groups == 1 and not ((out is not None and out.empty) or (inward is not None and inward.empty)):
        check_sizes(weight, out, inward)
        if bias is not None:
            check_sizes(bias, out, None)
        rows = None if out is None else out.beside(weight)[0]
        columns = None if inward is None else inward.beside(weight)[0]
        scale = 1.0 if inward is None else inward.scale
        return _linear.linear(input, weight, bias, rows, columns, scale, sparse)
    plain = not sparse and all(kept is None or kept.heads is None for kept in (out, inward))
    if groups > 1 and plain and 0 < input.numel() <= _FEW * groups * input.shape[-1] and not traced():
        check_sizes(weight, out, inward)
        return _whole.linear(input, weight, bias, out, inward)
    if inward is not None:
        input = without_empty(input, inward)
    reuse = _linear.keeps_memory(input, weight)

    def bias_of(group: int) -> Tensor | None:
        return None if bias is None else block(bias, out, None, group)

    if groups == 1 or input.shape[0] % groups or not input.numel():
        each_has = blocks(weight, out, inward, sparse, reuse)
        return each(input, groups, lambda rows, group: F.linear(rows, each_has[group], bias_of(group)))
    weights = torch.stack(blocks(weight, out, inward, sparse, reuse))
    parts = input.reshape(groups, -1, input.shape[-1])
    if bias is None:
        made = parts @ weights.mT
    else:
        biases = torch.stack([bias_of(group) for group in range(groups)])  # type: ignore[misc]
        if torch.is_autocast_enabled(input.device.type):
            made = parts @ weights.mT + biases.unsqueeze(1).to(torch.get_autocast_dtype(input.device.type))
        else:
            made = torch.baddbmm(biases.unsqueeze(1), parts, weights.mT)
    return made.reshape(*input.shape[:-1], weights.shape[1])


def _taken(matrix: Tensor, numbers: Tensor) -> Tensor:
    """Columns of a matrix, without autograd where it asks for no gradient, as a network's input does not."""
    if matrix.requires_grad or traced() or _compat.forward_derivatives():
        return take(matrix, None, numbers)
    return gathered(matrix, None, numbers, 1.0)


def columns(input: Tensor, kept: Kept, axis: int) -> Tensor:
    """What is kept of an input, along an axis."""
    numbers = kept.beside(input)
    if len(numbers) == 1 and not kept.empty and axis == -1 and input.dim() == 2 and input.is_contiguous():
        return _taken(input, numbers[0])
    if len(numbers) > 1 and axis % input.dim() == input.dim() - 1 and input.numel() and not traced():
        return _whole.taken(input, kept)

    def one(rows: Tensor, group: int) -> Tensor:
        if axis % rows.dim() == rows.dim() - 1 and rows.is_contiguous():
            wide = rows.reshape(-1, rows.shape[-1])
            part = _taken(wide, numbers[group]).reshape(*rows.shape[:-1], len(numbers[group]))
        else:
            part = rows.index_select(axis, numbers[group])
        missing = kept.width - len(numbers[group])
        if not missing:
            return part
        more = list(part.shape)
        more[axis] = missing
        return torch.cat([part, part.new_zeros(more)], axis)

    return each(input, len(kept.parts), one)
