"""A cell's state, and which of its tensors a visitor wants dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from thinned import _states


def change(state: Any, visitor: Callable[[Any], Any], by: Callable[[Tensor, int], Tensor]) -> Any:
    """The state with `by(leaf, index)` for each leaf that is wanted."""
    flags = _states.wanted(state, visitor)
    kept = enumerate(zip(_states.leaves(state), flags, strict=True))
    return _states.replaced(state, [by(leaf, index) if yes else leaf for index, (leaf, yes) in kept])


def all_but_c(part: Any) -> Any:
    """Floating tensors, but no field c of a named tuple."""
    return _states.all_but_c(part, part.is_floating_point() if isinstance(part, Tensor) else None)


def all_but_c_of_a_pair(part: Any) -> Any:
    """The same for a cell whose state is torch's (h, c)."""
    return (True, False) if isinstance(part, tuple) and len(part) == 2 else all_but_c(part)
