"""This file has the base of layers that Keras does not have: one draws by a key of its own for each call."""

from __future__ import annotations

from typing import Any

import keras

from thinned.keras._site import Seed, Site, held


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
