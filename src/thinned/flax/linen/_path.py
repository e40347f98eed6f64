"""Stochastic depth as a linen module."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax

from thinned.flax._mask import check_rate, rows, thin
from thinned.flax.linen._dropout import source


class DropPath(nn.Module):
    """Drop a residual branch by samples: `Dropout` with one decision along all dimensions but the first.

    Args:
        rate: as of `Dropout`.
        scale_by_keep: multiply what is kept by 1/(1−rate). Without it what is kept stays as it is, in
            training and in evaluation, as in timm.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> DropPath(0.5, deterministic=False).apply({}, jnp.ones((3, 2)), rng=Key(0))
        Array([[2., 2.],
               [0., 0.],
               [2., 2.]], dtype=float32)
    """

    rate: float
    scale_by_keep: bool = True
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Any, deterministic: bool | None = None, rng: Any = None) -> jax.Array:
        """Drop samples of inputs, (N, …); the arguments are as of `Dropout`.

        Under `jax.vmap` there is no N: use `Dropout` and share all dimensions.
        """
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        mode: Literal["inverted", "classic"] = (
            "inverted" if deterministic or self.scale_by_keep else "classic"
        )
        draw = source(self, self.rng_collection, rng)
        return thin(inputs, self.rate, deterministic, draw, rows(inputs, type(self).__name__), mode)
