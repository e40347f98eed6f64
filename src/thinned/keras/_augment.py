"""These layers replace words, and mask spans of spectrograms and boxes of pictures."""

from __future__ import annotations

from typing import Any

import keras

from thinned import _boxes
from thinned._arguments import check_tokens
from thinned.contract import check_probability
from thinned.keras._added_layer import SameShape, check_floating, checked_format
from thinned.keras._backend import active
from thinned.keras._site import Seed


@keras.saving.register_keras_serializable(package="thinned")
class WordDropout(SameShape):
    """Replace each token by another, the unknown word's as a rule, in training: before an Embedding.

    Tokens that come as floats, as of a `keras.Input` without a dtype, become int32, as in an Embedding.

    Args:
        rate: probability in [0, 1] that a token is replaced.
        replacement: what it is replaced by.
        protected: tokens that are never replaced: padding, beginning and end.
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`; `replacement must be an integer, got …`.
        ValueError: as `Dropout`.

    Source:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015.

    Example:
        >>> layer = WordDropout(0.5, replacement=0, seed=1, name="words")
        >>> y = layer(keras.ops.full((1, 50), 7, dtype="int32"), training=True)
        >>> sorted({int(token) for token in y[0]})
        [0, 7]
    """

    def __init__(
        self,
        rate: float,
        replacement: int,
        protected: tuple[int, ...] = (),
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(seed, **kwargs)
        self.autocast = False  # float16 has no number for token 5001, bfloat16 none for 257
        self.rate = rate
        self.replacement, *self.protected = check_tokens(replacement, protected)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Replace in training."""
        rate = check_probability(self.rate, "rate")
        if not keras.backend.is_int_dtype(inputs.dtype):  # what an Input is, unless it says its dtype
            inputs = keras.ops.cast(inputs, "int32")
        if not training or not rate:
            return inputs
        return active.word_dropout(inputs, rate, self.replacement, self.mask_key(), tuple(self.protected))

    def rate_now(self) -> float:
        """The rate."""
        return self.rate

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """The result has integers."""
        dtype = inputs.dtype if keras.backend.is_int_dtype(inputs.dtype) else "int32"
        return keras.KerasTensor(inputs.shape, dtype)

    def get_config(self) -> dict[str, Any]:
        """With the rate and the tokens."""
        own = {"rate": self.rate, "replacement": self.replacement, "protected": tuple(self.protected)}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="thinned")
class SpecAugment(SameShape):
    """Mask spans of frequency and of time of spectrograms in training.

    Args:
        frequency_width: F, the widest mask of frequencies.
        time_width: T, the widest mask of times.
        frequency_masks: how many of the first.
        time_masks: how many of the second.
        frequency_axis: where frequencies are, in (N, time, frequency) the last.
        time_axis: where times are.
        value: what is written there.
        seed: see `Dropout`. The masks of frequencies are by the call's key folded by 0, of times by 1.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: in a call, `width must be from 0 to …, got …`.

    Source:
        Park et al., "SpecAugment", Interspeech 2019; the warp of time is no dropout, and not in it.

    Example:
        >>> layer = SpecAugment(27, 100, seed=1, name="spectrogram")
        >>> layer(keras.ops.ones((2, 500, 80)), training=True).shape == (2, 500, 80)
        True
    """

    def __init__(
        self,
        frequency_width: int,
        time_width: int,
        frequency_masks: int = 2,
        time_masks: int = 2,
        frequency_axis: int = -1,
        time_axis: int = -2,
        value: float = 0.0,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        self.frequency = _boxes.check_numbers(frequency_width, frequency_masks, frequency_axis)
        self.time = _boxes.check_numbers(time_width, time_masks, time_axis)
        self.value = float(_boxes.check_value(value))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Mask in training."""
        check_floating(inputs)
        for width, count, axis in (self.frequency, self.time):
            _boxes.check_spans(width, count, axis, tuple(inputs.shape))
        if not training:
            return inputs
        key = self.mask_key()
        for part, (width, count, axis) in enumerate((self.frequency, self.time)):
            inputs = active.mask_spans(inputs, width, count, axis, active.fold(key, part), self.value)
        return inputs

    def rate_now(self) -> float:
        """1 where anything is masked."""
        return float(any(width and count for width, count, _ in (self.frequency, self.time)))

    def get_config(self) -> dict[str, Any]:
        """With the masks' widths, numbers and axes."""
        own: dict[str, Any] = {"value": self.value}
        for name, (width, count, axis) in (("frequency", self.frequency), ("time", self.time)):
            own.update({f"{name}_width": width, f"{name}_masks": count, f"{name}_axis": axis})
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="thinned")
class Cutout(SameShape):
    """Mask a box of each picture, whose centre is anywhere in it, with a probability in training.

    Args:
        size: of the box, which may reach over the edge: a number, or height and width.
        rate: probability in [0, 1] that a picture has a box.
        value: what is written there.
        data_format: "channels_last", "channels_first", or None for Keras's `image_data_format`.
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; in a call, for inputs that are not of four dimensions.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017;
        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.

    Example:
        >>> layer = Cutout(2, data_format="channels_last", seed=1, name="box")
        >>> layer(keras.ops.ones((2, 8, 8, 3)), training=True).shape == (2, 8, 8, 3)
        True
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        rate: float = 1.0,
        value: float = 0.0,
        data_format: str | None = None,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        rate = check_probability(rate, "rate")
        super().__init__(seed, **kwargs)
        sides = _boxes.check_size(size)
        self.size = sides if isinstance(size, (tuple, list)) else sides[0]
        self.rate, self.value = rate, float(_boxes.check_value(value))
        self.data_format = checked_format(data_format)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Mask in training."""
        rate = check_probability(self.rate, "rate")
        layout = "NHWC" if self.data_format == "channels_last" else "NCHW"
        check_floating(inputs)
        _boxes.check_box(self.size, layout, tuple(inputs.shape))
        if not training or not rate:
            return inputs
        return active.cutout(inputs, self.size, rate, self.mask_key(), layout, self.value)

    def rate_now(self) -> float:
        """The rate."""
        return self.rate

    def get_config(self) -> dict[str, Any]:
        """With the box and the rate."""
        own = {"size": self.size, "rate": self.rate, "value": self.value, "data_format": self.data_format}
        return {**super().get_config(), **own}
