"""These recurrent layers are Keras's, around cells with our masks."""

from __future__ import annotations

from typing import Any

import keras

from thinned.keras._cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from thinned.keras._site import Seeded, checked


class Recurrent(Seeded):
    """A mixin in front of Keras's recurrent layers."""

    name: str
    cell: Any
    cell_class: type[Cell]
    dropout: float
    recurrent_dropout: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, kwargs, seed = checked(super().__init__, args, kwargs)
        super().__init__(*args, **kwargs)
        # Keras's constructor makes its own cell. One made from that cell's configuration would lose what
        # Keras cannot serialize, such as a function for an activation.
        self.cell.__class__ = self.cell_class
        self.cell.layer_name = self.name
        self.cell.settle(seed)

    @property
    def seed(self) -> Any:
        """The cell's."""
        return self.cell.seed

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Keras's; in evaluation no mask is drawn, and inputs that have one mask are dropped all at once."""
        one_mask = getattr(self.cell, "dropout_mask_count", None) is None and not self.recurrent_dropout
        if training and one_mask and self.dropout:
            # What Keras does on a GPU: exact, and the fused kernels of a backend stay in use.
            sequences, training = self.cell.drop_sequences(sequences), False
        self.cell.draws = bool(training)
        try:
            return super().call(  # type: ignore[misc]
                sequences, initial_state=initial_state, mask=mask, training=training
            )
        finally:
            self.cell.draws = True


@keras.saving.register_keras_serializable(package="thinned")
class SimpleRNN(Recurrent, keras.layers.SimpleRNN):  # type: ignore[misc]
    """Equivalent to `keras.layers.SimpleRNN`, of which it is a subclass.

    A mask serves all times of a sequence. The masks of a layer are numbered as they are drawn, those of
    the inputs before those of the state: mask n has the key `Key(seed).fold(name).fold(n)`.

    Args:
        *args: as `keras.layers.SimpleRNN`.
        **kwargs: likewise; `dropout` and `recurrent_dropout` in [0, 1], and `seed` as in `Dropout`.

    Raises:
        TypeError: `dropout must be a real number, got …`, and as `Dropout` for the seed.
        ValueError: `dropout must be in [0, 1], got …`, and the same of `recurrent_dropout`.

    Source:
        Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016.

    Example:
        >>> layer = SimpleRNN(4, dropout=0.2, recurrent_dropout=0.2, seed=1, name="encoder")
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """

    cell_class = SimpleRNNCell


@keras.saving.register_keras_serializable(package="thinned")
class GRU(Recurrent, keras.layers.GRU):  # type: ignore[misc]
    """Equivalent to `keras.layers.GRU`, of which it is a subclass. See `SimpleRNN`.

    With recurrent dropout there are three masks of the inputs and three of the state, one for each gate;
    without it, one mask of the inputs.

    Args:
        *args: as `keras.layers.GRU`.
        **kwargs: likewise; see `SimpleRNN`.

    Raises:
        TypeError: as `SimpleRNN`.
        ValueError: as `SimpleRNN`.

    Source:
        Gal and Ghahramani, as `SimpleRNN`.

    Example:
        >>> layer = GRU(4, dropout=0.2, recurrent_dropout=0.2, seed=1, name="encoder")
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """

    cell_class = GRUCell


@keras.saving.register_keras_serializable(package="thinned")
class LSTM(Recurrent, keras.layers.LSTM):  # type: ignore[misc]
    """Equivalent to `keras.layers.LSTM`, of which it is a subclass. See `SimpleRNN`.

    With recurrent dropout there are four masks of the inputs and four of the state, one for each gate;
    without it, one mask of the inputs.

    Args:
        *args: as `keras.layers.LSTM`.
        **kwargs: likewise; see `SimpleRNN`.

    Raises:
        TypeError: as `SimpleRNN`.
        ValueError: as `SimpleRNN`.

    Source:
        Gal and Ghahramani, as `SimpleRNN`.

    Example:
        >>> layer = LSTM(4, dropout=0.2, recurrent_dropout=0.2, seed=1, name="encoder")
        >>> layer(keras.ops.ones((2, 3, 5)), training=True).shape == (2, 4)
        True
    """

    cell_class = LSTMCell
