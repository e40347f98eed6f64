"""This file has the base of layers that Keras does not have; one draws by its own key for each call."""

from __future__ import annotations

from typing import Any, Final

import keras

from thinned.keras._site import Seed, Site, held

_DTYPES: Final = ("float32", "float64", "float16", "bfloat16")
_FORMATS: Final = ("channels_last", "channels_first")


def check_floating(inputs: Any, name: str = "inputs") -> None:
    """Refuse integers and bools, in evaluation too."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype not in _DTYPES:
        raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {dtype}: cast it")


def checked_format(data_format: str | None) -> str:
    """Returns the position of channels; Keras's setting if not given."""
    known: str = keras.config.image_data_format() if data_format is None else data_format
    if known not in _FORMATS:
        raise ValueError(f'data_format must be "channels_last" or "channels_first", got {data_format!r}')
    return known


class Own(Site):
    """A site, in front of a class of Keras that makes no `seed_generator`."""

    call: Any

    def draw_from(self, seed: Seed) -> None:
        """Make the generator of keys, after Keras's constructor."""
        self.seed_generator = keras.random.SeedGenerator(held(seed))
        self.settle(seed)

    def rate_now(self) -> float:
        """Tells how much is dropped; 0 where nothing is."""
        raise NotImplementedError


class SameShape(Own, keras.layers.Layer):  # type: ignore[misc]
    """A layer whose outputs have the inputs' shape and type."""

    def __init__(self, seed: Seed, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.draw_from(seed)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The inputs'."""
        return input_shape

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """The inputs'."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)
