"""This package predicts JAX functions, and so Flax and Equinox modules, by Monte Carlo dropout."""

from thinned._installed import needs

needs("thinned.mc.jax", "jax", "jax")

from thinned.mc.jax._predict import predict
from thinned.mc.jax._random import random_key

__all__ = ["predict", "random_key"]


def __dir__() -> list[str]:
    return sorted(__all__)
