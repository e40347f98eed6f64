"""This linen module drops the weights of a layer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from thinned.flax._mask import check_rate, thin
from thinned.flax.linen._dropout import source
from thinned.jax._types import AnyKey


class DropConnect(nn.Module):
    """Run a layer with its kernel dropped, by one mask for the batch.

    The parameter is made and trained as it is: what a call uses is a dropped copy, whose gradient is 0 where
    it was dropped.

    Args:
        layer: a module with a parameter of its own of the name below: `nn.Dense`, `DenseGeneral`, `Einsum`,
            `Conv`, ….
        rate: as of `Dropout`.
        weight: the parameter's name; a bias is not dropped.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013. It evaluates by moments
        of the sum's distribution; this, as is usual, by its mean.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from thinned import Key
        >>> layer = DropConnect(nn.Dense(3, kernel_init=nn.initializers.ones), 0.5, deterministic=False)
        >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 4)))
        >>> layer.apply(variables, jnp.ones((2, 4)), rng=Key(0))
        Array([[8., 4., 6.],
               [8., 4., 6.]], dtype=float32)
    """

    layer: nn.Module
    rate: float
    weight: str = "kernel"
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, *args: Any, deterministic: bool | None = None, rng: AnyKey | None = None, **kwargs: Any
    ) -> Any:
        """Call the layer; `deterministic` and `rng` are as of `Dropout`, the rest is the layer's.

        Nothing is dropped while parameters are made.

        Raises:
            ValueError: `DropConnect needs a layer with a parameter …, got …`.
            flax.errors.InvalidRngError: `DropConnect has no key: …`.
        """
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        if self.is_initializing():  # what is made here is kept, and is to be whole
            return self.layer(*args, **kwargs)
        draw = source(self, self.rng_collection, rng)

        def dropped(variables: Any) -> Any:
            own = variables["params"]
            if self.weight not in own:
                kind = type(self.layer).__name__
                raise ValueError(f"DropConnect needs a layer with a parameter {self.weight!r}, got {kind}")
            weight = thin(own[self.weight], self.rate, deterministic, draw)
            return {**variables, "params": {**own, self.weight: weight}}

        return nn.map_variables(lambda layer: layer(*args, **kwargs), "params", dropped)(self.layer)
