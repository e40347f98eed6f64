"""How the attentions of single query heads, the problems of the kernels, lie in their tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Size, and the step through each tensor by its name.
Dimension = tuple[int, dict[str, int]]


@dataclass(frozen=True)
class Problems:
    """Dimensions of an array of problems, outermost first; at least one.

    Heads are two dimensions: those of the keys, and the queries' of each. A key of many queries is a tensor
    that does not move along a dimension.
    """

    dimensions: tuple[Dimension, ...]

    @property
    def count(self) -> int:
        return math.prod(size for size, _ in self.dimensions)

    def last(self, *still: str) -> tuple[Problems, int]:
        """The same with the dimensions last along which these tensors do not move, and their number."""
        shared = [d for d in self.dimensions if not any(d[1][name] for name in still)]
        others = [d for d in self.dimensions if any(d[1][name] for name in still)]
        return Problems((*others, *shared)), math.prod(size for size, _ in shared)

    def sizes(self) -> tuple[int, ...]:
        """As a kernel takes them: innermost first."""
        return tuple(size for size, _ in reversed(self.dimensions))

    def steps(self, name: str) -> tuple[int, ...]:
        return tuple(steps[name] for _, steps in reversed(self.dimensions))


def problems(batch: Sequence[int], groups: int, steps: dict[str, Sequence[int]], of_keys: Any) -> Problems:
    """Problems of a batch whose last dimension, if any, are heads.

    Args:
        batch: sizes of query's dimensions in front of its last two.
        groups: heads of key, each of which serves as many of query's, one after another.
        steps: by the name of a tensor its step along each dimension of the batch; 0 where it does not move.
        of_keys: names of the tensors that have the heads of key.

    Example:
        >>> problems((2, 6), 3, {"q": (60, 10), "k": (30, 10)}, ("k",)).dimensions
        ((2, {'q': 60, 'k': 30}), (3, {'q': 20, 'k': 10}), (2, {'q': 10, 'k': 0}))
    """
    found: list[Dimension] = []
    for axis, size in enumerate(batch):
        here = {name: each[axis] for name, each in steps.items()}
        if axis < len(batch) - 1:
            found.append((size, here))
            continue
        each = size // groups
        found.append((groups, {name: s if name in of_keys else s * each for name, s in here.items()}))
        found.append((each, {name: 0 if name in of_keys else s for name, s in here.items()}))
    moved = tuple(d for d in found if d[0] != 1)
    return Problems(moved or ((1, dict.fromkeys(steps, 0)),))
