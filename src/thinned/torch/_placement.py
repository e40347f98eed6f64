"""Every function takes the placement of its tensor in a larger one as keyword arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from thinned._position import Shape, as_shape, positions, row_major
from thinned.contract import Key
from thinned.torch import _compat
from thinned.torch._batching import Sizes


class Place(TypedDict, total=False):
    """`global_shape`, `start` and `step` of `functional.dropout`."""

    global_shape: Shape | None
    start: Shape | None
    step: Shape | None


class Source(Place, total=False):
    """Holds what most verbs take: a place, a key, or a generator to draw one from."""

    key: Key | Tensor | None
    generator: torch.Generator | None


@dataclass(frozen=True)
class Rows:
    """`count` of `total` rows: from `start` on, every `step`-th."""

    start: int
    step: int
    count: int
    total: int
    dim: int

    def place(self, shape: Sequence[int], dim: int) -> Place:
        """The place of a tensor that holds these rows in the tensor that holds all rows.

        Args:
            shape: of the tensor.
            dim: the dimension in which its rows are.

        Raises:
            ValueError: where it does not have so many rows.
        """
        if not -len(shape) <= dim < len(shape) or shape[dim] != self.count:
            raise ValueError(
                f"set_rows was told of {self.count} rows, and dimension {dim} of shape {tuple(shape)} does "
                "not have so many: tell it the rows of this batch, and by dim=… where they are"
            )
        dim %= len(shape)
        rank = len(shape)
        return {
            "global_shape": tuple(self.total if axis == dim else shape[axis] for axis in range(rank)),
            "start": tuple(self.start if axis == dim else 0 for axis in range(rank)),
            "step": tuple(self.step if axis == dim else 1 for axis in range(rank)),
        }


Where = tuple[Sizes, Sizes, Sizes]


def traced_by_jit() -> bool:
    """Tells whether torch.jit.trace is at work."""
    return not torch.compiler.is_compiling() and _compat.tracing_state() is not None


def sizes_of(input: Tensor) -> tuple[int, ...]:
    """The input's shape in integers: while torch.jit.trace is at work, its entries are tensors."""
    if not traced_by_jit():
        return input.shape
    state = _compat.tracing_state()
    _compat.set_tracing_state(None)
    try:
        return tuple(input.shape)
    finally:
        _compat.set_tracing_state(state)


def as_lists(place: Place, shape: Sequence[int]) -> Where:
    """Global shape, start and step as an operator takes them, for a mask of this shape.

    Raises:
        TypeError: for a keyword that is none of the three.
        ValueError: naming both shapes, where they do not fit.
    """
    positions(tuple(shape), None, **place)
    whole, start, step = (place.get(name) for name in ("global_shape", "start", "step"))
    return (
        None if whole is None else as_shape("global_shape", whole),
        None if start is None else as_shape("start", start),
        None if step is None else as_shape("step", step),
    )


def consecutive(place: Place, shape: Sequence[int]) -> int | None:
    """Position of the first element where all others follow it one by one; None where they do not.

    Raises:
        ValueError: naming both shapes, where they do not fit.
    """
    base, strides = positions(tuple(shape), None, **place)
    return base if strides in (None, row_major(tuple(shape))) else None
