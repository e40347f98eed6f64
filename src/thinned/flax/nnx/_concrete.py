"""This nnx module puts concrete dropout before a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from thinned._concrete import check_inside, check_positive, check_samples, divergence
from thinned.flax.nnx._dropout import Dropout, Rngs
from thinned.jax import concrete_dropout
from thinned.jax._dropout import check_dtype
from thinned.jax._learned import OPERATORS


class ConcreteDropout(Dropout):
    """Drop the inputs of a layer by a relaxed mask whose rate is learned.

    Its `regularization()` belongs to the loss, or the rate only falls.

    Args:
        layer: `nnx.Linear`, or `nnx.Conv`, whose channels are then dropped as wholes.
        rate: where the rate begins, in (0, 1).
        samples: N, the size of the training set.
        length_scale: l, the prior's: a weight's standard deviation is 1/l.
        temperature: of the relaxed mask, positive.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Attributes:
        rate_logit: the parameter that is learned, an `nnx.Param`.

    Raises:
        TypeError: as `Dropout`; `layer must be an nnx.Linear or nnx.Conv, got …`.
        ValueError: `rate must be inside (0, 1), got …`; `samples must be positive, got …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017.

    Example:
        >>> from thinned import Key
        >>> layer = ConcreteDropout(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), samples=1000)
        >>> layer(jnp.ones((2, 8)), key=Key(0)).shape, round(float(layer.p), 4)
        ((2, 4), 0.1)
    """

    def __init__(
        self,
        layer: nnx.Module,
        rate: float = 0.1,
        *,
        samples: int,
        length_scale: float = 1e-2,
        temperature: float = 0.1,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        super().__init__(rate, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        if not isinstance(layer, (nnx.Linear, nnx.Conv)):
            raise TypeError(f"layer must be an nnx.Linear or nnx.Conv, got {type(layer).__name__}")
        rate = check_inside(rate, "rate")
        check_positive(length_scale=length_scale, temperature=temperature)
        self.layer = layer
        self.samples, self.length_scale, self.temperature = check_samples(samples), length_scale, temperature
        self.rate_logit = nnx.Param(jnp.asarray(math.log(rate) - math.log1p(-rate), jnp.float32))

    @property
    def p(self) -> jax.Array:
        """The rate that has been learned so far."""
        return jax.nn.sigmoid(self.rate_logit[...])

    def _drop(self, inputs: jax.Array, stay: bool, draw: Callable[[], Any]) -> jax.Array:
        layer: Any = self.layer
        check_dtype(jnp.asarray(inputs), "inputs")
        if not stay:
            axes = layer.kernel.ndim - 2
            lead = jnp.ndim(inputs) - axes - 1
            noise = (*(None,) * lead, *(1,) * axes, None) if axes else None
            inputs = concrete_dropout(
                inputs,
                self.p,
                key=draw(),
                training=True,
                temperature=self.temperature,
                noise_shape=noise,
            )
        return layer(inputs)  # type: ignore[no-any-return]

    def regularization(self) -> jax.Array:
        """The divergence from the prior over N: (l²/(2(1−p)) ‖W‖² − K H(p)) / N, of K inputs or channels."""
        layer: Any = self.layer
        kernel = layer.kernel[...]
        kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))  # squares leave float16's range
        inputs = kernel.shape[-2] * getattr(layer, "feature_group_count", 1)
        prior = (inputs, self.samples, self.length_scale)
        result: jax.Array = divergence(self.rate_logit[...], jnp.square(kernel).sum(), *prior, OPERATORS)
        return result
