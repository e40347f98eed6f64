"""These layers drop single elements, multiply by noise, or keep SELU's mean and variance."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from thinned._arguments import DROP_ALL, SELU_LIMIT, UNUSED
from thinned.contract import check_probability, keep_probability, threshold
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


@keras.saving.register_keras_serializable(package="thinned")
class AlphaDropout(Site, keras.layers.AlphaDropout):  # type: ignore[misc]
    """Equivalent to `keras.layers.AlphaDropout`, of which it is a subclass.

    With α' = −1.7581 kept elements become a · (x − α'p) and dropped ones a · (α' − α'p), where
    a = 1/√((α'² p + 1)(1 − p)), in float32 (float64 for float64).

    Args:
        rate: drop probability in [0, 1]. At 1, where a would be infinite, the outputs are zeros.
        noise_shape: see `Dropout`.
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`.

    Source:
        Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Example:
        >>> import thinned
        >>> layer = AlphaDropout(0.5, seed=thinned.Key(0))
        >>> y = layer(keras.ops.zeros(3), training=True)
        >>> sorted({round(abs(float(value)), 4) for value in y})
        [0.7792]
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: Seed = None, **kwargs: Any) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(rate, noise_shape, held(seed), **kwargs)
        self.settle(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training; evaluate to the inputs themselves otherwise."""
        rate = check_probability(self.rate, "rate")
        drop = threshold(rate)
        if not training or drop in (0, DROP_ALL):
            return active.dropout(inputs, rate, UNUSED, bool(training), self.noise_shape)
        inputs = active.dropout(inputs, 0.0, UNUSED, True, self.noise_shape)  # for its checks
        key = self.mask_key()
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        wide = "float64" if dtype == "float64" else "float32"
        scale, if_kept, if_dropped = (
            ops.convert_to_tensor(number, wide) for number in _affine(1.0 - keep_probability(drop))
        )
        kept = active.dropout(ops.cast(inputs, wide), rate, key, True, self.noise_shape, "classic")
        # Ones tell where: the mask itself would be kept for the gradient of a selection between inputs.
        keep = active.dropout(ops.ones_like(kept), rate, key, True, self.noise_shape, "classic")
        # The sum first: of a product and a sum XLA makes one operation, which rounds otherwise.
        return ops.cast((kept + ops.where(keep != 0, if_kept, if_dropped)) * scale, dtype)


def _affine(p: float) -> tuple[float, float, float]:
    """a, and what is added before: −α'p to what is kept, α' − α'p to the zero of what is not."""
    a = 1.0 / math.sqrt((SELU_LIMIT * SELU_LIMIT * p + 1.0) * (1.0 - p))
    return a, -SELU_LIMIT * p, SELU_LIMIT - SELU_LIMIT * p
