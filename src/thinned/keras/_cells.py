"""Recurrent cells drop their inputs and states here by masks that all times of a sequence share."""

from __future__ import annotations

import math
import threading
from typing import Any

import keras

from thinned.keras import _compat
from thinned.keras._backend import active
from thinned.keras._site import RATES, Seed, Site, checked

# Keras's cells take 1 for "no dropout". This drops all just so: its threshold is 2^32 as well.
_ALL = math.nextafter(1.0, 0.0)


class Mask:
    """Holds what a cell multiplies its inputs or its state by: `x * mask` is dropout of x by the key.

    Keras's own is a tensor of the compute dtype, in which 1/(1−rate) is not exact, and leaves a NaN.
    """

    def __init__(self, rate: float, key: Any) -> None:
        self._rate, self._key = rate, key

    def __rmul__(self, x: Any) -> Any:
        return active.dropout(x, self._rate, self._key, True)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """PyTorch's product of a tensor and a mask, which else begins with an error: 10 times a product."""
        if len(args) == 2 and func in active.PRODUCTS and isinstance(args[1], cls):
            return args[1].__rmul__(args[0])
        return NotImplemented


def _of_thread(name: str, otherwise: Any) -> property:
    """An attribute for as long as a sequence runs, of which each thread has its own."""

    def read(self: Any) -> Any:
        return self._running.get((name, threading.get_ident()), otherwise)

    def write(self: Any, value: Any) -> None:
        if value is otherwise:  # nothing is left of a thread that is done
            self._running.pop((name, threading.get_ident()), None)
        else:
            self._running[name, threading.get_ident()] = value

    return property(read, write)


_compat.check_cells()


class Cell(Site):
    """A mixin in front of Keras's cells."""

    dropout: float
    draws = _of_thread("draws", True)  # False while the layer around the cell evaluates
    # Keras keeps the masks of a sequence in the cell: two threads would drop by each other's.
    _dropout_mask = _of_thread("inputs", None)
    _recurrent_dropout_mask = _of_thread("state", None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, kwargs, seed = checked(super().__init__, args, kwargs)
        super().__init__(*args, **kwargs)
        self.settle(seed)

    def settle(self, seed: Seed) -> None:
        """Take the seed, and rates of 1."""
        super().settle(seed)
        self.__dict__["_running"] = {}
        for name in RATES:
            if getattr(self, name) == 1:
                setattr(self, name, _ALL)

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """Keras's, of tensors: a variable, such as a stateful layer's state, cannot multiply by a mask."""
        several = isinstance(states, (list, tuple))
        states = [_value(state) for state in states] if several else _value(states)
        return super().call(_value(inputs), states, training=training)  # type: ignore[misc]

    @property
    def mask_name(self) -> str:
        """The name of the layer around the cell, since Keras calls all cells of a kind the same."""
        return getattr(self, "layer_name", None) or self.name

    def _create_dropout_mask(self, step_input: Any, dropout_rate: float) -> Any:
        if not self.draws:
            return None
        count = getattr(self, "dropout_mask_count", None)
        masks = [Mask(dropout_rate, self.mask_key()) for _ in range(count or 1)]
        return masks[0] if count is None else masks

    def drop_sequences(self, sequences: Any) -> Any:
        """All times of (batch, time, features) at once, by the mask that `get_dropout_mask` would have."""
        return active.dropout(sequences, self.dropout, self.mask_key(), True, (None, 1, None))

    def get_config(self) -> dict[str, Any]:
        """Keras's, with the rates as they were given."""
        config = super().get_config()
        return {**config, **{name: 1.0 for name in RATES if config[name] == _ALL}}


@keras.saving.register_keras_serializable(package="thinned")
class SimpleRNNCell(Cell, keras.layers.SimpleRNNCell):  # type: ignore[misc]
    """Equivalent to `keras.layers.SimpleRNNCell`, of which it is a subclass, for `keras.layers.RNN`.

    Args:
        *args: as `keras.layers.SimpleRNNCell`.
        **kwargs: likewise; `dropout` and `recurrent_dropout` in [0, 1], and `seed` as in `Dropout`.

    Raises:
        TypeError: `dropout must be a real number, got …`, and as `Dropout` for the seed.
        ValueError: `dropout must be in [0, 1], got …`, and the same of `recurrent_dropout`.

    Source:
        Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016.

    Example:
        >>> layer = keras.layers.RNN(SimpleRNNCell(4, recurrent_dropout=0.5, seed=1, name="cell"))
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """


@keras.saving.register_keras_serializable(package="thinned")
class GRUCell(Cell, keras.layers.GRUCell):  # type: ignore[misc]
    """Equivalent to `keras.layers.GRUCell`, of which it is a subclass, for `keras.layers.RNN`.

    Args:
        *args: as `keras.layers.GRUCell`.
        **kwargs: likewise; see `SimpleRNNCell`.

    Raises:
        TypeError: as `SimpleRNNCell`.
        ValueError: as `SimpleRNNCell`.

    Source:
        Gal and Ghahramani, as `SimpleRNNCell`.

    Example:
        >>> layer = keras.layers.RNN(GRUCell(4, recurrent_dropout=0.5, seed=1, name="cell"))
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """


@keras.saving.register_keras_serializable(package="thinned")
class LSTMCell(Cell, keras.layers.LSTMCell):  # type: ignore[misc]
    """Equivalent to `keras.layers.LSTMCell`, of which it is a subclass, for `keras.layers.RNN`.

    Args:
        *args: as `keras.layers.LSTMCell`.
        **kwargs: likewise; see `SimpleRNNCell`.

    Raises:
        TypeError: as `SimpleRNNCell`.
        ValueError: as `SimpleRNNCell`.

    Source:
        Gal and Ghahramani, as `SimpleRNNCell`.

    Example:
        >>> layer = keras.layers.RNN(LSTMCell(4, recurrent_dropout=0.5, seed=1, name="cell"))
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """


def _value(x: Any) -> Any:
    return x.value if isinstance(x, keras.Variable) else x
