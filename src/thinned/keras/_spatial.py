"""These layers drop whole channels."""

from __future__ import annotations

from typing import Any

import keras

from thinned.contract import check_probability
from thinned.keras._dropout import Drops
from thinned.keras._site import Seed, held


class Channels(Drops):
    """Decides once for each sample and channel."""

    data_format: str

    def sharing(self, rank: int) -> tuple[int | None, ...]:
        """1 for the steps, rows and columns of a channel."""
        if self.data_format == "channels_first":
            return (None, None, *(1,) * (rank - 2))
        return (None, *(1,) * (rank - 2), None)


@keras.saving.register_keras_serializable(package="thinned")
class SpatialDropout1D(Channels, keras.layers.SpatialDropout1D):  # type: ignore[misc]
    """Equivalent to `keras.layers.SpatialDropout1D`, of which it is a subclass.

    Args:
        rate: drop probability in [0, 1].
        seed: see `Dropout`.
        name: of the layer.
        dtype: dtype or policy.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, Keras's own for inputs that are not (samples, steps, channels).

    Source:
        Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient Object Localization Using Convolutional
        Networks", CVPR 2015.

    Example:
        >>> layer = SpatialDropout1D(0.5, seed=1, name="channels")
        >>> y = layer(keras.ops.ones((2, 3, 4)), training=True)
        >>> bool(keras.ops.all(y[:, 0] == y[:, 1]))
        True
    """

    data_format = "channels_last"

    def __init__(self, rate: float, seed: Seed = None, name: str | None = None, dtype: Any = None) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(rate, seed=held(seed), name=name, dtype=dtype)
        self.settle(seed)


class Maps(Channels):
    """Channels of two or three dimensions, which may come first or last."""

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: Seed = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(rate, data_format, seed=held(seed), name=name, dtype=dtype)  # type: ignore[call-arg]
        self.settle(seed)


@keras.saving.register_keras_serializable(package="thinned")
class SpatialDropout2D(Maps, keras.layers.SpatialDropout2D):  # type: ignore[misc]
    """Equivalent to `keras.layers.SpatialDropout2D`, of which it is a subclass.

    Args:
        rate: drop probability in [0, 1].
        data_format: "channels_last", "channels_first", or None for Keras's `image_data_format`.
        seed: see `Dropout`.
        name: of the layer.
        dtype: dtype or policy.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, Keras's own for inputs that are not of four dimensions.

    Source:
        Tompson et al., as `SpatialDropout1D`.

    Example:
        >>> layer = SpatialDropout2D(0.5, data_format="channels_first", seed=1, name="channels")
        >>> y = layer(keras.ops.ones((2, 4, 3, 3)), training=True)
        >>> bool(keras.ops.all(y[:, :, :1, :1] == y))
        True
    """


@keras.saving.register_keras_serializable(package="thinned")
class SpatialDropout3D(Maps, keras.layers.SpatialDropout3D):  # type: ignore[misc]
    """Equivalent to `keras.layers.SpatialDropout3D`, of which it is a subclass.

    Args:
        rate: drop probability in [0, 1].
        data_format: "channels_last", "channels_first", or None for Keras's `image_data_format`.
        seed: see `Dropout`.
        name: of the layer.
        dtype: dtype or policy.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, Keras's own for inputs that are not of five dimensions.

    Source:
        Tompson et al., as `SpatialDropout1D`.

    Example:
        >>> layer = SpatialDropout3D(0.5, seed=1, name="channels")
        >>> y = layer(keras.ops.ones((2, 3, 3, 3, 4)), training=True)
        >>> bool(keras.ops.all(y[:, :1, :1, :1] == y))
        True
    """
