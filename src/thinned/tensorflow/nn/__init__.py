"""Dropout has the spellings of `tf.nn` here."""

from thinned.tensorflow._connect import drop_connect, drop_connect_dense
from thinned.tensorflow._rnn import DropoutWrapper as RNNCellDropoutWrapper
from thinned.tensorflow.nn._dropout import dropout, stateless_dropout

__all__ = ["RNNCellDropoutWrapper", "drop_connect", "drop_connect_dense", "dropout", "stateless_dropout"]


def __dir__() -> list[str]:
    return sorted(__all__)
