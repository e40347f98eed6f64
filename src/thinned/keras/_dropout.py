"""Dropout of single elements, and of whatever a noise shape says."""

from __future__ import annotations

from typing import Any

import keras

from thinned._arguments import UNUSED
from thinned.contract import check_probability
from thinned.keras._backend import active
from thinned.keras._site import Seed, Site, held


class Drops(Site):
    """A layer that multiplies by a mask in training."""

    rate: float
    noise_shape: Any

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training; evaluate to the inputs themselves otherwise."""
        rate = check_probability(self.rate, "rate")
        key = self.mask_key() if training and rate else UNUSED
        return active.dropout(inputs, rate, key, bool(training), self.sharing(len(inputs.shape)))

    def sharing(self, rank: int) -> Any:
        """The noise shape of inputs with so many dimensions."""
        return self.noise_shape


@keras.saving.register_keras_serializable(package="thinned")
class Dropout(Drops, keras.layers.Dropout):  # type: ignore[misc]
    """Equivalent to `keras.layers.Dropout`, of which it is a subclass.

    Args:
        rate: drop probability in [0, 1].
        noise_shape: one entry a dimension, the batch included: 1 shares the decision along it; None or the
            input's size does not.
        seed: None, an integer in [0, 2^64), a `keras.random.SeedGenerator` (shared with all that use it)
            or a `thinned.Key`. Call n has the mask of `Key(seed).fold(name).fold(n)`, so that layers of one
            seed differ by their names; with a Key, of `seed.fold(n)`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: `rate must be a real number, got …`; `seed must be None, an integer, …`.
        ValueError: `rate must be in [0, 1], got …`; `seed must be in [0, 2^64), got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import numpy as np, thinned
        >>> layer = Dropout(0.5, seed=thinned.Key(1))
        >>> y = layer(np.ones((2, 4), "float32"), training=True)
        >>> expected = thinned.dropout(
        ...     np.ones((2, 4), "float32"), 0.5, key=thinned.Key(1).fold(0), training=True
        ... )
        >>> bool((keras.ops.convert_to_numpy(y) == expected).all())
        True
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: Seed = None, **kwargs: Any) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(rate, noise_shape, held(seed), **kwargs)
        self.settle(seed)
