"""One value of each of many samples, which may differ in size: of smaller networks, units that each keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Many:
    """The values of samples; `flat` has the elements of all, one sample behind the other, if it is known."""

    parts: Sequence[Tensor]
    flat: Tensor | None = None

    @classmethod
    def room(cls, shapes: Sequence[tuple[int, ...]], like: Tensor) -> Many:
        """Memory for values of these shapes."""
        flat = like.new_empty(sum(map(math.prod, shapes)))
        return cls(_cut(flat, shapes), flat)

    def by_element(self, function: Callable[[Tensor], Tensor]) -> Many:
        """A function of single elements, in one call where all are in one tensor."""
        if self.flat is None:
            return Many([function(part) for part in self.parts])
        made = function(self.flat)
        return Many(_cut(made, [part.shape for part in self.parts]), made)

    def viewed(self, function: Callable[[Tensor], Tensor]) -> Many:
        """A view of each, whose elements stay where they are."""
        return Many([function(part) for part in self.parts], self.flat)

    def together(self) -> Tensor:
        """The samples in the first dimension, of values of one shape."""
        if self.flat is None:
            return torch.stack(list(self.parts))
        return self.flat.view(len(self.parts), *self.parts[0].shape)


Value = Tensor | Many


def of(value: Value, k: int) -> Tensor:
    """The value in a sample; a tensor alone is that of all."""
    return value.parts[k] if isinstance(value, Many) else value


def masked(value: Value, factors: Tensor) -> Many:
    """Values multiplied by what a mask has for each sample; 0 where that is 0, whatever stands there."""
    whole = value.together() if isinstance(value, Many) else value[None]
    made = (whole * factors).masked_fill_(factors == 0, 0)
    return Many(made.unbind(0), made.view(-1))


def _cut(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
