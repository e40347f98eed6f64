"""Dropout for JAX: `dropout`, `keep_mask` and `dot_product_attention`, under all transformations and meshes.

`kept_units` and `thin_dense` compute thinned networks, of a fixed number of units.

A key is a `thinned.Key`, a jax PRNG key, or its four words as a uint32 array; the latter two may be traced,
and `fold` derives one from another. On a CPU the native kernel does the work, through XLA's foreign function
interface; elsewhere, and where it cannot be had, `jax.numpy` does, with equal bits.
"""

from thinned._installed import needs

needs("thinned.jax", "jax", "jax")

from thinned.jax._attention import dot_product_attention
from thinned.jax._dropout import dropout, keep_mask
from thinned.jax._key import fold
from thinned.jax._thin import kept_units, thin_dense

__all__ = ["dot_product_attention", "dropout", "fold", "keep_mask", "kept_units", "thin_dense"]


def __dir__() -> list[str]:
    return sorted(__all__)
