"""`linen_apply` and `nnx_apply` make Flax modules the functions that `thinned.mc.jax.predict` takes."""

from thinned.mc.flax._apply import linen_apply, nnx_apply

__all__ = ["linen_apply", "nnx_apply"]


def __dir__() -> list[str]:
    return sorted(__all__)
