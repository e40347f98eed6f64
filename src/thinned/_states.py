"""A recurrent cell's state is handled here as a structure of tensors, some of which are dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def wanted(state: Any, visitor: Callable[[Any], Any]) -> list[bool]:
    """Says yes or no for each leaf: the visitor is asked of the state, then of each part that it accepts.

    Raises:
        TypeError: `dropout_state_filter_visitor must return True, False or one of them …`.
    """
    return _walk(state, visitor(state), visitor)


def leaves(state: Any) -> list[Any]:
    """Its tensors, and whatever else it holds, in order."""
    parts = parts_of(state)
    return [state] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def replaced(state: Any, new: list[Any]) -> Any:
    """The same structure of other leaves."""
    return _take(state, iter(new))


def all_but_c(part: Any, floating: bool | None) -> Any:
    """The answer of a visitor: floating tensors, but no field c of a named tuple.

    Args:
        part: of a state.
        floating: whether it is a tensor of a floating type; None of what is no tensor.
    """
    if floating is not None:
        return floating
    if hasattr(part, "_fields"):
        return tuple(name != "c" for name in part._fields)
    return isinstance(part, (tuple, list, dict))


def parts_of(part: Any) -> list[Any] | None:
    """Return what a structure holds; None of a leaf."""
    if isinstance(part, dict):
        return list(part.values())
    return list(part) if isinstance(part, (tuple, list)) else None


def _walk(part: Any, answer: Any, visitor: Callable[[Any], Any]) -> list[bool]:
    parts = parts_of(part)
    answers = _answers(answer, part, parts)
    if parts is None:
        return answers
    found: list[bool] = []
    for one, yes in zip(parts, answers, strict=True):
        found += _walk(one, visitor(one) if yes else False, visitor)
    return found


def _answers(wanted: Any, part: Any, parts: list[Any] | None) -> list[bool]:
    """Returns the visitor's answer for each part in order; for a leaf, the one for itself."""
    size = 1 if parts is None else len(parts)
    if isinstance(wanted, bool):
        return [wanted] * size
    if parts is not None:
        by_name = isinstance(part, dict) and isinstance(wanted, dict)
        answers = [wanted.get(name) for name in part] if by_name else parts_of(wanted)
        if answers and len(answers) == size and all(isinstance(one, bool) for one in answers):
            return answers
    raise TypeError(
        "dropout_state_filter_visitor must return True, False or one of them for each of the state's parts, "
        f"got {wanted!r} for {type(part).__name__}"
    )


def _take(part: Any, new: Any) -> Any:
    parts = parts_of(part)
    if parts is None:
        return next(new)
    changed = [_take(one, new) for one in parts]
    if isinstance(part, dict):
        return dict(zip(part, changed, strict=True))
    return type(part)(*changed) if hasattr(part, "_fields") else type(part)(changed)
