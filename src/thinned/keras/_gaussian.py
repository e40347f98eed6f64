"""Gaussian dropout: multiplicative normal noise of mean 1."""

from __future__ import annotations

from typing import Any

import keras

from thinned._arguments import UNUSED
from thinned.contract import check_probability
from thinned.keras._backend import active
from thinned.keras._site import Seed, Site, held


@keras.saving.register_keras_serializable(package="thinned")
class GaussianDropout(Site, keras.layers.GaussianDropout):  # type: ignore[misc]
    """Equivalent to `keras.layers.GaussianDropout`, of which it is a subclass.

    In training inputs are multiplied by 1 + σ z, with σ = √(rate/(1−rate)) and the normal deviates z of the
    key, all in float32 (float64 for float64), rounded once. Backends agree to the rounding of z and of the
    product.

    Args:
        rate: in [0, 1), the dropout probability whose variance the noise has.
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: `GaussianDropout needs rate < 1, got …`; else as `Dropout`.

    Source:
        CONTRACT.md, section 6; Srivastava et al., "Dropout", JMLR 2014, section 10.

    Example:
        >>> import thinned
        >>> layer = GaussianDropout(0.5, seed=thinned.Key(0))
        >>> y = layer(keras.ops.ones(3), training=True)
        >>> [round(float(value), 4) for value in y]
        [1.6896, 0.4914, 1.7741]
    """

    def __init__(self, rate: float, seed: Seed = None, **kwargs: Any) -> None:
        super().__init__(_finite(rate), held(seed), **kwargs)
        self.settle(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Multiply by noise in training; evaluate to the inputs themselves otherwise."""
        rate = _finite(self.rate)
        if not training or rate == 0:
            return active.dropout(inputs, rate, UNUSED, False)
        return active.gaussian_dropout(inputs, rate, self.mask_key())


def _finite(rate: Any) -> float:
    number = check_probability(rate, "rate")
    if number == 1:
        raise ValueError(
            "GaussianDropout needs rate < 1, got 1.0: the standard deviation of its noise is "
            "√(rate/(1−rate)), infinite at 1; Dropout takes 1"
        )
    return number
