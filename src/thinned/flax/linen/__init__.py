"""This package has the layers of `flax.linen`: `Dropout` and its family, and dropout in attention."""

from thinned.flax.linen._attention import dot_product_attention
from thinned.flax.linen._audit import audit
from thinned.flax.linen._connect import DropConnect
from thinned.flax.linen._dropout import Dropout, DropPath
from thinned.flax.linen._patch import PatchDropout, SpecAugment

__all__ = [
    "DropConnect",
    "DropPath",
    "Dropout",
    "PatchDropout",
    "SpecAugment",
    "audit",
    "dot_product_attention",
]


def __dir__() -> list[str]:
    return sorted(__all__)
