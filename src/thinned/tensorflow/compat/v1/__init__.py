"""Dropout has TensorFlow 1's spellings here, in graphs, in sessions and eagerly."""

from thinned.tensorflow.compat.v1 import layers, nn

__all__ = ["layers", "nn"]


def __dir__() -> list[str]:
    return sorted(__all__)
