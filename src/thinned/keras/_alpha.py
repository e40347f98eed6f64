"""Alpha dropout: what is dropped goes to SELU's lower limit, and mean and variance stay."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from thinned._arguments import DROP_ALL, UNUSED
from thinned.contract import check_probability, keep_probability, threshold
from thinned.keras._backend import active
from thinned.keras._site import Seed, Site, held

_LIMIT = -1.7580993408473766  # of SELU at minus infinity: −λα


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
    a = 1.0 / math.sqrt((_LIMIT * _LIMIT * p + 1.0) * (1.0 - p))
    return a, -_LIMIT * p, _LIMIT - _LIMIT * p
