"""A cell's state as a structure of tensors, and which of them a visitor wants dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def change(state: Any, visitor: Callable[[Any], Any], by: Callable[[Tensor, int], Tensor]) -> tuple[Any, int]:
    """The state with `by(leaf, index)` for each leaf that is wanted, and how many leaves there are.

    The visitor is asked of the state, then of each part that it says True of.
    """
    return _walk(state, visitor(state), visitor, by, 0)


def all_but_c(part: Any) -> Any:
    """Floating tensors, but no field c of a named tuple."""
    if isinstance(part, Tensor):
        return part.is_floating_point()
    if hasattr(part, "_fields"):
        return tuple(name != "c" for name in part._fields)
    return isinstance(part, (tuple, list, dict))


def all_but_c_of_a_pair(part: Any) -> Any:
    """The same for a cell whose state is torch's (h, c)."""
    return (True, False) if isinstance(part, tuple) and len(part) == 2 else all_but_c(part)


def _walk(part: Any, wanted: Any, visitor: Any, by: Any, index: int) -> tuple[Any, int]:
    parts = _parts_of(part)
    answers = _answers(wanted, part, parts)
    if parts is None:
        return (by(part, index) if answers[0] else part), index + 1
    changed = []
    for one, yes in zip(parts, answers, strict=True):
        done, index = _walk(one, visitor(one) if yes else False, visitor, by, index)
        changed.append(done)
    return _rebuilt(part, changed), index


def _parts_of(part: Any) -> list[Any] | None:
    if isinstance(part, dict):
        return list(part.values())
    return list(part) if isinstance(part, (tuple, list)) else None


def _answers(wanted: Any, part: Any, parts: list[Any] | None) -> list[Any]:
    """Yes or no for each part, in their order; for a leaf, for itself."""
    size = 1 if parts is None else len(parts)
    if isinstance(wanted, bool):
        return [wanted] * size
    if parts is not None:
        one_by_one = isinstance(part, dict) and isinstance(wanted, dict)
        answers = [wanted.get(name) for name in part] if one_by_one else _parts_of(wanted)
        if answers and len(answers) == size and all(isinstance(one, bool) for one in answers):
            return answers
    raise TypeError(
        f"dropout_state_filter_visitor must return True, False or one of them for each of the state's parts, "
        f"got {wanted!r} for {type(part).__name__}"
    )


def _rebuilt(part: Any, parts: list[Any]) -> Any:
    if isinstance(part, dict):
        return dict(zip(part, parts, strict=True))
    return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
