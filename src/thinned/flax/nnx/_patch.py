"""These nnx modules drop patches, and mask spans and boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from thinned._boxes import check_numbers, check_value
from thinned.contract import check_integer
from thinned.flax._mask import patches, spans
from thinned.flax.nnx._dropout import Dropout, Rngs


class PatchDropout(Dropout):
    """Keep a fixed number of tokens of each sample, (N, L, …), in training: `thinned.jax.patch_dropout`.

    Args:
        rate: share of tokens that is dropped, a number in [0, 1]; at least one stays.
        prefix_tokens: so many at the beginning, class tokens, always stay.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, `patch_dropout takes (N, L, …), got shape …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> PatchDropout(0.5)(jnp.arange(9.0).reshape(1, 9, 1), key=Key(0)).ravel()
        Array([0., 1., 3., 4., 7.], dtype=float32)
    """

    def __init__(
        self,
        rate: float,
        *,
        prefix_tokens: int = 1,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        super().__init__(rate, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        self.prefix_tokens = check_integer("prefix_tokens", prefix_tokens)

    def _drop(self, inputs: jax.Array, stay: bool, draw: Callable[[], Any]) -> jax.Array:
        rate: Any = self.rate
        return patches(inputs, rate, self.prefix_tokens, stay, draw)


class SpecAugment(Dropout):
    """Mask spans of frequency and of time of spectrograms in training: `thinned.jax.mask_spans`, twice.

    Args:
        frequency_width: F, the widest mask of frequencies.
        time_width: T, the widest mask of times.
        frequency_masks: how many of the first.
        time_masks: how many of the second.
        frequency_axis: where frequencies are, in (N, time, frequency) the last.
        time_axis: where times are.
        value: what is written there.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.
        rngs: as of `Dropout`.

    Raises:
        ValueError: in a call, `width must be from 0 to …, got …`.

    Source:
        Park et al., "SpecAugment", Interspeech 2019; the warp of time is no dropout, and not in it.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> SpecAugment(27, 100)(jnp.ones((2, 500, 80)), key=Key(0)).shape
        (2, 500, 80)
    """

    def __init__(
        self,
        frequency_width: int,
        time_width: int,
        *,
        frequency_masks: int = 2,
        time_masks: int = 2,
        frequency_axis: int = -1,
        time_axis: int = -2,
        value: float = 0.0,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | None = None,
    ) -> None:
        super().__init__(1.0, deterministic=deterministic, rng_collection=rng_collection, rngs=rngs)
        self.parts = (
            check_numbers(frequency_width, frequency_masks, frequency_axis),
            check_numbers(time_width, time_masks, time_axis),
        )
        self.value = check_value(value)

    def _drop(self, inputs: jax.Array, stay: bool, draw: Callable[[], Any]) -> jax.Array:
        return spans(inputs, self.parts, self.value, stay, draw)
