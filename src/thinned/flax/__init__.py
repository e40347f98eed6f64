"""This package has dropout layers for Flax, in the manners of `flax.nnx` and `flax.linen`.

A mask's key is the one that Flax hands out, from `nnx.Rngs` or `apply(…, rngs={"dropout": key})`, so that
Flax's own folding by path and count applies; or a key of your own, given to the call.
"""

from thinned._installed import needs

needs("thinned.flax", "flax", "flax")

from thinned.flax import linen, nnx

__all__ = ["linen", "nnx"]


def __dir__() -> list[str]:
    return sorted(__all__)
