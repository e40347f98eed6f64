"""This package has the layers of `flax.nnx`: `Dropout` and its family, and dropout in attention."""

# Each is a subclass of `Dropout`, one family a file; `_attention` has what attention is handed. `_keyed`
# gives a model's sites their keys by path and step.

from thinned.flax.nnx._attention import dot_product_attention
from thinned.flax.nnx._concrete import ConcreteDropout
from thinned.flax.nnx._connect import DropConnect
from thinned.flax.nnx._dropout import Dropout, DropPath
from thinned.flax.nnx._keyed import keyed, set_step
from thinned.flax.nnx._patch import PatchDropout, SpecAugment

__all__ = [
    "ConcreteDropout",
    "DropConnect",
    "DropPath",
    "Dropout",
    "PatchDropout",
    "SpecAugment",
    "dot_product_attention",
    "keyed",
    "set_step",
]


def __dir__() -> list[str]:
    return sorted(__all__)
