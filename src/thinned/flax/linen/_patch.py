"""These linen modules drop patches, and mask spans and boxes."""

from __future__ import annotations

import flax.linen as nn
import jax

from thinned._boxes import check_numbers, check_value
from thinned.flax._mask import check_rate, patches, spans
from thinned.flax.linen._dropout import source
from thinned.jax._types import AnyKey


class PatchDropout(nn.Module):
    """Keep a fixed number of tokens of each sample, (N, L, …), in training: `thinned.jax.patch_dropout`.

    Args:
        rate: share of tokens that is dropped, a number in [0, 1]; at least one stays.
        prefix_tokens: so many at the beginning, class tokens, always stay.
        deterministic: as of `Dropout`.
        rng_collection: as of `Dropout`.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, `patch_dropout takes (N, L, …), got shape …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> layer = PatchDropout(0.5, deterministic=False)
        >>> layer.apply({}, jnp.arange(9.0).reshape(1, 9, 1), rng=Key(0)).ravel()
        Array([0., 1., 3., 4., 7.], dtype=float32)
    """

    rate: float
    prefix_tokens: int = 1
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: jax.Array, deterministic: bool | None = None, rng: AnyKey | None = None
    ) -> jax.Array:
        """Drop tokens; the arguments are as of `Dropout`."""
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        draw = source(self, self.rng_collection, rng)
        return patches(inputs, self.rate, self.prefix_tokens, deterministic, draw)


class SpecAugment(nn.Module):
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

    Raises:
        ValueError: in a call, `width must be from 0 to …, got …`.

    Source:
        Park et al., "SpecAugment", Interspeech 2019; the warp of time is no dropout, and not in it.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> SpecAugment(27, 100, deterministic=False).apply({}, jnp.ones((2, 500, 80)), rng=Key(0)).shape
        (2, 500, 80)
    """

    frequency_width: int
    time_width: int
    frequency_masks: int = 2
    time_masks: int = 2
    frequency_axis: int = -1
    time_axis: int = -2
    value: float = 0.0
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def __post_init__(self) -> None:
        check_numbers(self.frequency_width, self.frequency_masks, self.frequency_axis)
        check_numbers(self.time_width, self.time_masks, self.time_axis)
        check_value(self.value)
        super().__post_init__()

    @property
    def rate(self) -> float:
        """1 where anything is masked, for `thinned.mc`."""
        return float(self.frequency_width * self.frequency_masks + self.time_width * self.time_masks > 0)

    @nn.compact
    def __call__(
        self, inputs: jax.Array, deterministic: bool | None = None, rng: AnyKey | None = None
    ) -> jax.Array:
        """Mask spans; the arguments are as of `Dropout`."""
        deterministic = nn.merge_param("deterministic", self.deterministic, deterministic)
        parts = (
            (self.frequency_width, self.frequency_masks, self.frequency_axis),
            (self.time_width, self.time_masks, self.time_axis),
        )
        return spans(inputs, parts, self.value, deterministic, source(self, self.rng_collection, rng))
