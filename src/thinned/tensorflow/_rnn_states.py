"""A cell's state as a structure of tensors, and which of them are to be dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def wanted(cell: Any, state: Any, visitor: Callable[[Any], Any] | None) -> list[bool]:
    """Yes or no for each leaf: the visitor is asked of the state, then of each part that it says True of."""
    return _all_but_c(cell, state) if visitor is None else _walk(state, visitor(state), visitor)


def _all_but_c(cell: Any, state: Any) -> list[bool]:
    """Floating tensors, but no LSTM's c: a field c of a named tuple, the second of a Keras LSTMCell's two."""
    while getattr(cell, "cell", None) is not None:
        cell = cell.cell
    cells = getattr(cell, "cells", None) or getattr(cell, "_cells", None)
    parts = _parts_of(state)
    if cells and parts is not None and len(cells) == len(parts):
        return [yes for one, part in zip(cells, parts, strict=True) for yes in _all_but_c(one, part)]
    unnamed = parts is not None and len(parts) == 2 and not hasattr(state, "_fields")
    if parts and unnamed and _is_keras_lstm(cell):
        return [*wanted(None, parts[0], _floating_but_c), *(False for _ in leaves(parts[1]))]
    return wanted(None, state, _floating_but_c)


def leaves(state: Any) -> list[Any]:
    """Its tensors, and whatever else it holds, in order."""
    parts = _parts_of(state)
    return [state] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def replaced(state: Any, new: list[Any]) -> Any:
    """The same structure of other leaves."""
    return _take(state, iter(new))


def _is_keras_lstm(cell: Any) -> bool:
    # By name, as Keras is loaded by whoever has one of its cells, and by nobody else.
    return any(kind.__name__ == "LSTMCell" and "keras" in kind.__module__ for kind in type(cell).__mro__)


def _floating_but_c(part: Any) -> Any:
    if tf.is_tensor(part) or isinstance(part, np.ndarray):
        return bool(tf.as_dtype(part.dtype).is_floating)
    if hasattr(part, "_fields"):
        return tuple(name != "c" for name in part._fields)
    return isinstance(part, (tuple, list, dict))


def _walk(part: Any, answer: Any, visitor: Callable[[Any], Any]) -> list[bool]:
    parts = _parts_of(part)
    answers = _answers(answer, part, parts)
    if parts is None:
        return answers
    found: list[bool] = []
    for one, yes in zip(parts, answers, strict=True):
        found += _walk(one, visitor(one) if yes else False, visitor)
    return found


def _parts_of(part: Any) -> list[Any] | None:
    if isinstance(part, dict):
        return list(part.values())
    return list(part) if isinstance(part, (tuple, list)) else None


def _answers(wanted: Any, part: Any, parts: list[Any] | None) -> list[bool]:
    """Yes or no for each part, in their order; for a leaf, for itself."""
    size = 1 if parts is None else len(parts)
    if isinstance(wanted, bool):
        return [wanted] * size
    if parts is not None:
        by_name = isinstance(part, dict) and isinstance(wanted, dict)
        answers = [wanted.get(name) for name in part] if by_name else _parts_of(wanted)
        if answers and len(answers) == size and all(isinstance(one, bool) for one in answers):
            return answers
    raise TypeError(
        "dropout_state_filter_visitor must return True, False or one of them for each of the state's parts, "
        f"got {wanted!r} for {type(part).__name__}"
    )


def _take(part: Any, new: Any) -> Any:
    parts = _parts_of(part)
    if parts is None:
        return next(new)
    changed = [_take(one, new) for one in parts]
    if isinstance(part, dict):
        return dict(zip(part, changed, strict=True))
    return type(part)(*changed) if hasattr(part, "_fields") else type(part)(changed)
