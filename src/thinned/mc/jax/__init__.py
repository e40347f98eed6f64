"""Monte Carlo prediction of JAX functions: of pure functions, and so of Flax and Equinox modules."""

from thinned._installed import needs

needs("thinned.mc.jax", "jax", "jax")

from thinned.mc.jax._predict import predict
from thinned.mc.jax._random import random_key

__all__ = ["predict", "random_key"]


def __dir__() -> list[str]:
    return sorted(__all__)
