"""These signatures tell type checkers that `training` is required though p has a default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Unpack, overload

from torch import Tensor

from thinned.torch._placement import Source

Rate = float | Tensor


class InPlaceVerb(Protocol):
    """`verb(input, p=0.5, training, inplace=False)`."""

    __name__: str

    @overload
    def __call__(
        self, input: Tensor, p: Rate, training: bool, inplace: bool = False, **source: Unpack[Source]
    ) -> Tensor: ...
    @overload
    def __call__(
        self, input: Tensor, p: Rate = 0.5, *, training: bool, inplace: bool = False, **source: Unpack[Source]
    ) -> Tensor: ...


def in_place_verb(verb: Callable[..., Any]) -> InPlaceVerb:
    """The verb itself, by that signature."""
    return verb
