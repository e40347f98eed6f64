"""This package has dropout for JAX, under all its transformations and on meshes.

`kept_units` and `thin_dense` compute thinned networks, of a fixed number of units.

A key is a `thinned.Key`, a jax PRNG key, or its four words as a uint32 array; the latter two may be traced,
and `fold` derives one from another. On a CPU the native kernel does the work, through XLA's foreign function
interface; elsewhere, and where it cannot be had, `jax.numpy` does, with equal bits.
"""

from thinned._installed import needs

needs("thinned.jax", "jax", "jax")

from thinned.jax._attention import dot_product_attention
from thinned.jax._boxes import cutout, mask_spans
from thinned.jax._dropout import dropout, keep_mask
from thinned.jax._graph import drop_edge, drop_message, drop_node
from thinned.jax._key import fold
from thinned.jax._learned import concrete_dropout, variational_dropout
from thinned.jax._structured import drop_key, patch_dropout, spatial_dropout, word_dropout
from thinned.jax._thin import kept_units, thin_dense

__all__ = [
    "concrete_dropout",
    "cutout",
    "dot_product_attention",
    "drop_edge",
    "drop_key",
    "drop_message",
    "drop_node",
    "dropout",
    "fold",
    "keep_mask",
    "kept_units",
    "mask_spans",
    "patch_dropout",
    "spatial_dropout",
    "thin_dense",
    "variational_dropout",
    "word_dropout",
]


def __dir__() -> list[str]:
    return sorted(__all__)
