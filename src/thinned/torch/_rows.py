"""Which rows of a larger batch a tensor holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinned.torch._place import Place


@dataclass(frozen=True)
class Rows:
    """`count` of `total` rows: from `start` on, every `step`-th."""

    start: int
    step: int
    count: int
    total: int
    dim: int

    def place(self, shape: Sequence[int], dim: int) -> Place:
        """Where a tensor of this shape, with its batch in this dimension, stands in that of all rows.

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
