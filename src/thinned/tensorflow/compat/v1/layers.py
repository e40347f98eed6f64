"""Dropout has the spellings of `tf.compat.v1.layers` here."""

from __future__ import annotations

import tensorflow as tf

from thinned.tensorflow import _arguments, _dropout
from thinned.tensorflow._types import Flag, NoiseShape, Scalar, Seed, Tensor, TensorLike

__all__ = ["Dropout", "dropout"]


class Dropout(tf.Module):  # type: ignore[misc]
    """Equivalent to `tf.compat.v1.layers.Dropout`, which TensorFlow with Keras 3 no longer has.

    Args:
        rate: probability in [0, 1] to drop; or a floating tensor of no dimension.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or the input's size does not.
            Also a tensor, or with tensors among its entries.
        seed: a `thinned.Key`, or an integer tensor of shape (2,), is the key of every call. An integer or
            None is what it is to TensorFlow: a new key is drawn at each execution.
        name: of the layer.

    Raises:
        TypeError: `seed must be …, got …`.
        ValueError: `rate must be a real number, got …`; `rate must be in [0, 1], got …`.

    Source:
        `tf.compat.v1.layers.Dropout`; CONTRACT.md, section 4.

    Example:
        >>> import tensorflow as tf, thinned
        >>> layer = Dropout(0.5, seed=thinned.Key(0))
        >>> layer(tf.ones(5), training=True).numpy(), layer(tf.ones(5)).numpy()
        (array([2., 0., 2., 2., 2.], dtype=float32), array([1., 1., 1., 1., 1.], dtype=float32))
    """

    def __init__(
        self,
        rate: Scalar = 0.5,
        noise_shape: NoiseShape | None = None,
        seed: Seed = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.rate = _arguments.probability(rate, "rate")
        self.seed = _arguments.check_seed(seed)
        # A list would become TensorFlow's own, that it tracks.
        self.noise_shape = tuple(noise_shape) if isinstance(noise_shape, list) else noise_shape

    def __call__(self, inputs: TensorLike, training: Flag = False) -> Tensor:
        """Drop where `training`, a bool or a bool tensor of no dimension, is true; else the inputs."""
        training = _arguments.flag(training)
        if training is False:  # of any dtype, as TensorFlow's
            return tf.convert_to_tensor(inputs) if not tf.is_tensor(inputs) else inputs
        x = _arguments.floating(inputs)
        key, shared = _arguments.key_of(self.seed), _arguments.aligned(x, self.noise_shape)
        return _dropout.dropout(x, self.rate, key=key, training=training, noise_shape=shared, name=self.name)

    def apply(self, inputs: TensorLike, training: Flag = False) -> Tensor:
        """Return what a call does."""
        return self(inputs, training=training)


def dropout(
    inputs: TensorLike,
    rate: Scalar = 0.5,
    noise_shape: NoiseShape | None = None,
    seed: Seed = None,
    training: Flag = False,
    name: str | None = None,
) -> Tensor:
    """Equivalent to `tf.compat.v1.layers.dropout`: it drops only where it is told to.

    Args:
        inputs: tensor; float32, float64, float16 or bfloat16.
        rate: as for `Dropout`.
        noise_shape: as for `Dropout`.
        seed: as for `Dropout`.
        training: bool, or a bool tensor of no dimension, such as a placeholder: one graph for both.
        name: of the layer.

    Returns:
        A tensor of the inputs' shape and dtype; the inputs where `training` is False.

    Raises:
        TypeError: as `Dropout`.
        ValueError: as `Dropout`; `x must be float32, float64, float16 or bfloat16, got …`; `noise_shape …
            does not fit x of shape …`.

    Source:
        `tf.compat.v1.layers.dropout`; CONTRACT.md, section 4.

    Example:
        >>> import tensorflow as tf, thinned
        >>> dropout(tf.ones(5), 0.5, seed=thinned.Key(0), training=True).numpy()
        array([2., 0., 2., 2., 2.], dtype=float32)
    """
    return Dropout(rate, noise_shape, seed, name)(inputs, training=training)
