"""This file says which tensors of a wrapped cell's state are to be dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from thinned import _states
from thinned._states import leaves as leaves
from thinned._states import replaced as replaced


def wanted(cell: Any, state: Any, visitor: Callable[[Any], Any] | None) -> list[bool]:
    """Yes or no for each leaf; without a visitor floating tensors, but no LSTM's c."""
    return _all_but_c(cell, state) if visitor is None else _states.wanted(state, visitor)


def _all_but_c(cell: Any, state: Any) -> list[bool]:
    """Floating tensors, but no LSTM's c: a field c of a named tuple, the second of a Keras LSTMCell's two."""
    while getattr(cell, "cell", None) is not None:
        cell = cell.cell
    cells = getattr(cell, "cells", None) or getattr(cell, "_cells", None)
    parts = _states.parts_of(state)
    if cells and parts is not None and len(cells) == len(parts):
        return [yes for one, part in zip(cells, parts, strict=True) for yes in _all_but_c(one, part)]
    unnamed = parts is not None and len(parts) == 2 and not hasattr(state, "_fields")
    if parts and unnamed and _is_keras_lstm(cell):
        return [*_states.wanted(parts[0], _floating_but_c), *(False for _ in leaves(parts[1]))]
    return _states.wanted(state, _floating_but_c)


def _is_keras_lstm(cell: Any) -> bool:
    # By name, as Keras is loaded by whoever has one of its cells, and by nobody else.
    return any(kind.__name__ == "LSTMCell" and "keras" in kind.__module__ for kind in type(cell).__mro__)


def _floating_but_c(part: Any) -> Any:
    is_tensor = tf.is_tensor(part) or isinstance(part, np.ndarray)
    return _states.all_but_c(part, bool(tf.as_dtype(part.dtype).is_floating) if is_tensor else None)
