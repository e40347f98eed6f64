"""A step of a wrapped cell drops inputs, outputs and states here, by one key folded by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from thinned import _states
from thinned._states import leaves as leaves
from thinned._states import replaced as replaced
from thinned.tensorflow import _dropout, _key, _rate


@dataclass(frozen=True)
class Masks:
    """Holds what is dropped in a step, and how.

    Attributes:
        key: the step's, a `Key` or a tensor; None where nothing is dropped.
        training: bool, or a bool tensor.
        shared: whether all samples have the same mask.
    """

    key: Any
    training: Any
    shared: bool

    def drop(self, x: Any, keep: Any, name: str) -> Any:
        """Every leaf of a structure; one that is alone has the key of the name itself."""
        parts = leaves(x)
        if keeps_all(keep):
            return x
        if len(parts) == 1:
            return replaced(x, [self._masked(parts[0], keep, self._folded(self.key, name))])
        return self.drop_where([True] * len(parts), x, keep, name)

    def drop_where(self, wanted: list[bool], x: Any, keep: Any, name: str) -> Any:
        """The wanted leaves of a structure, each by the key of the name folded by the leaf's number."""
        own = self._folded(self.key, name)
        new = [
            self._masked(leaf, keep, self._folded(own, index)) if yes else leaf
            for index, (leaf, yes) in enumerate(zip(leaves(x), wanted, strict=True))
        ]
        return replaced(x, new)

    def _masked(self, x: Any, keep: Any, key: Any) -> Any:
        x = _dropout.check_input(x)
        if key is None:
            return x
        if self.shared and x.shape.rank is None:
            raise ValueError("variational_recurrent=True needs tensors of a known number of dimensions")
        noise = (1, *(None,) * (x.shape.rank - 1)) if self.shared and x.shape.rank > 1 else None
        return _dropout.dropout(x, _rate.complement(keep), key=key, training=self.training, noise_shape=noise)

    @staticmethod
    def _folded(key: Any, data: Any) -> Any:
        return None if key is None else _key.fold(key, data)


def keeps_all(keep: Any) -> bool:
    """Tells whether it is known beforehand that nothing is dropped."""
    return isinstance(keep, float) and keep == 1.0


def wanted(cell: Any, state: Any, visitor: Callable[[Any], Any] | None) -> list[bool]:
    """Says yes or no for each leaf; without a visitor, yes for floating tensors but no LSTM's c."""
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
    # By name, so that Keras is not imported here: it is loaded wherever one of its cells exists.
    return any(kind.__name__ == "LSTMCell" and "keras" in kind.__module__ for kind in type(cell).__mro__)


def _floating_but_c(part: Any) -> Any:
    is_tensor = tf.is_tensor(part) or isinstance(part, np.ndarray)
    return _states.all_but_c(part, bool(tf.as_dtype(part.dtype).is_floating) if is_tensor else None)
