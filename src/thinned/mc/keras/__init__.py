"""This package predicts Keras models by Monte Carlo dropout, on any backend."""

from thinned._installed import needs_keras

needs_keras("thinned.mc.keras")

from thinned.mc.keras._predict import predict

__all__ = ["predict"]


def __dir__() -> list[str]:
    return sorted(__all__)
