"""Monte Carlo prediction of Keras models, on the backend that Keras has."""

from thinned._installed import needs_keras

needs_keras("thinned.mc.keras")

from thinned.mc.keras._predict import predict

__all__ = ["predict"]


def __dir__() -> list[str]:
    return sorted(__all__)
