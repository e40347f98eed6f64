"""Stochastic depth as an nnx module."""

from __future__ import annotations

from typing import Any, Literal

import jax

from thinned.flax._mask import rows, thin
from thinned.flax.nnx._dropout import Dropout, Rngs


class DropPath(Dropout):
    """Drop a residual branch by samples: `Dropout` with one decision along all dimensions but the first.

    Args:
        rate: as of `Dropout`.
        scale_by_keep: multiply what is kept by 1/(1−rate). Without it what is kept stays as it is, in
            training and in evaluation, as in timm.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> DropPath(0.5)(jnp.ones((3, 2)), key=Key(0))
        Array([[2., 2.],
               [0., 0.],
               [2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        rate: float | jax.Array,
        *,
        scale_by_keep: bool = True,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        super().__init__(rate, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        self.scale_by_keep = scale_by_keep

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | jax.Array | None = None,
        key: Any = None,
    ) -> jax.Array:
        """Drop samples of inputs, (N, …); the arguments are as of `Dropout`.

        Under `jax.vmap` there is no N: use `Dropout` and share all dimensions.
        """
        stay = self._stays(deterministic)
        mode: Literal["inverted", "classic"] = "inverted" if stay or self.scale_by_keep else "classic"
        shared = rows(inputs, type(self).__name__)
        return thin(inputs, self.rate, stay, lambda: self._key(rngs, key), shared, mode)
