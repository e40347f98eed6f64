"""Concrete dropout learns the rate of a layer's inputs."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from thinned._concrete import check_inside, check_positive, check_samples, divergence
from thinned.keras import _compat
from thinned.keras._added_layer import Own, check_floating
from thinned.keras._backend import active
from thinned.keras._site import Seed

_TAKES = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@keras.saving.register_keras_serializable(package="thinned")
class ConcreteDropout(Own, keras.layers.Wrapper):  # type: ignore[misc]
    """Drop the inputs of a Dense layer or a Conv by a relaxed mask whose rate is learned.

    The divergence from the prior is added to the model's losses, as a regularizer's is: for a loss that is a
    mean negative log-likelihood.

    Args:
        layer: `keras.layers.Dense`, or Conv1D to 3D, whose channels are then dropped as wholes.
        rate: where the rate begins, in (0, 1).
        samples: N, the size of the training set.
        length_scale: l, the prior's: a weight's standard deviation is 1/l.
        temperature: of the relaxed mask, positive.
        seed: see `Dropout`.
        **kwargs: `name`, `dtype` and whatever else a Keras layer takes.

    Attributes:
        rate_logit: the weight that is learned.

    Raises:
        TypeError: `layer must be a Dense or Conv1D to Conv3D, got …`; as `Dropout`.
        ValueError: `rate must be inside (0, 1), got …`; `samples must be positive, got …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017.

    Example:
        >>> layer = ConcreteDropout(keras.layers.Dense(4), samples=1000, seed=1, name="concrete")
        >>> y = layer(keras.ops.ones((2, 8)), training=True)
        >>> len(layer.losses), round(float(layer.rate), 4)
        (1, 0.1)
    """

    def __init__(
        self,
        layer: Any,
        rate: float = 0.1,
        *,
        samples: int,
        length_scale: float = 1e-2,
        temperature: float = 0.1,
        seed: Seed = None,
        **kwargs: Any,
    ) -> None:
        rate, samples = check_inside(rate, "rate"), check_samples(samples)
        length_scale, temperature = check_positive(length_scale=length_scale, temperature=temperature)
        if not isinstance(layer, _TAKES):
            raise TypeError(f"layer must be a Dense or Conv1D to Conv3D, got {type(layer).__name__}")
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.first_rate, self.samples = rate, samples
        self.length_scale, self.temperature = length_scale, temperature
        self.draw_from(seed)

    def build(self, input_shape: Any = None) -> None:
        """Build the layer, and make the rate's weight."""
        logit = math.log(self.first_rate) - math.log1p(-self.first_rate)
        self.rate_logit = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(logit), name="rate_logit", autocast=False
        )
        super().build(input_shape)

    @property
    def rate(self) -> Any:
        """The rate that has been learned so far, a tensor."""
        return ops.sigmoid(self.rate_logit)

    def rate_now(self) -> float:
        """The rate as a number; NaN in a graph, where it is not known."""
        if not self.built:
            return self.first_rate
        if not active.is_eager(self.rate_logit.value):
            return math.nan
        logit = float(self.rate_logit.numpy())
        return 1.0 / (1.0 + math.exp(-logit))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Run the layer, in training of what a relaxed mask keeps."""
        check_floating(inputs)
        self.add_loss(self.regularization())
        if training:
            inputs = active.concrete_dropout(
                inputs, ops.sigmoid(self.rate_logit.value), self.mask_key(), self.temperature, self._sharing()
            )
        return self.layer(inputs)

    def regularization(self) -> Any:
        """The divergence from the prior over N: (l²/(2(1−p)) ‖W‖² − K H(p)) / N, of K inputs or channels."""
        # In float16 the sum of squares leaves its range, and what a weight adds of its gradient is 0.
        with _compat.backend.AutocastScope(None):
            logit, kernel = (_wide(each) for each in (self.rate_logit, self.layer.kernel))
        inputs = kernel.shape[-2] * getattr(self.layer, "groups", 1)
        prior = (inputs, self.samples, self.length_scale)
        return divergence(logit, ops.sum(ops.square(kernel)), *prior, ops)

    def _sharing(self) -> tuple[int | None, ...] | None:
        """Returns the noise shape of one number for each channel of a convolution."""
        rank = len(self.layer.kernel.shape) - 2
        if not rank:
            return None
        last = self.layer.data_format == "channels_last"
        return (None, *(1,) * rank, None) if last else (None, None, *(1,) * rank)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """With the layer, where the rate began, and the prior."""
        return {
            **super().get_config(),
            "rate": self.first_rate,
            "samples": self.samples,
            "length_scale": self.length_scale,
            "temperature": self.temperature,
        }


def _wide(variable: Any) -> Any:
    """A tensor of at least float32."""
    tensor = ops.convert_to_tensor(variable)
    is_double = keras.backend.standardize_dtype(tensor.dtype) == "float64"
    return tensor if is_double else ops.cast(tensor, "float32")
