"""Dropout has the spellings of `tf.compat` here."""

from thinned.tensorflow.compat import v1

__all__ = ["v1"]


def __dir__() -> list[str]:
    return sorted(__all__)
