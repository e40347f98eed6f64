"""This nnx module drops the weights of a layer."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from thinned.flax.nnx._dropout import Dropout, Rngs
from thinned.jax._types import AnyKey


class DropConnect(nnx.Module):
    """Run a layer with its kernel dropped, by one mask for the batch.

    The parameter is trained as it is, under `layer`: what a call uses is a dropped copy, whose gradient is 0
    where it was dropped.

    Args:
        layer: a module with a parameter of its own of the name below: `nnx.Linear`, `LinearGeneral`,
            `Einsum`, `Conv`, …. It is to change no state in a call.
        rate: as of `Dropout`.
        weight: the parameter's name; a bias is not dropped.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; `DropConnect needs a layer with a parameter …, got …`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013. It evaluates by moments
        of the sum's distribution; this, as is usual, by its mean.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> linear = nnx.Linear(4, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> DropConnect(linear, 0.5)(jnp.ones((2, 4)), key=Key(0))
        Array([[8., 4., 6.],
               [8., 4., 6.]], dtype=float32)
    """

    def __init__(
        self,
        layer: nnx.Module,
        rate: float | jax.Array,
        *,
        weight: str = "kernel",
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        if not isinstance(getattr(layer, weight, None), nnx.Variable):
            raise ValueError(
                f"DropConnect needs a layer with a parameter {weight!r}, got {type(layer).__name__}"
            )
        self.layer = layer
        self.weight = weight
        self.dropout = Dropout(rate, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)

    def __call__(
        self,
        *args: Any,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        key: AnyKey | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the layer; `deterministic`, `rngs` and `key` are as of `Dropout`, the rest is the layer's."""
        variable = getattr(self.layer, self.weight)
        weight = variable[...]
        dropped = self.dropout(weight, deterministic=deterministic, rngs=rngs, key=key)
        layer: Any = self.layer
        if dropped is not weight:
            changed = {self.weight: variable.replace(dropped)}
            layer = nnx.with_attributes(layer, only=lambda path, node: not path, **changed)
        return layer(*args, **kwargs)
