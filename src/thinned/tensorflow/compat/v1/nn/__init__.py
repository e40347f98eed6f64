"""Dropout has the spellings of `tf.compat.v1.nn` here."""

from thinned.tensorflow.compat.v1.nn import rnn_cell
from thinned.tensorflow.compat.v1.nn._dropout import dropout

__all__ = ["dropout", "rnn_cell"]


def __dir__() -> list[str]:
    return sorted(__all__)
