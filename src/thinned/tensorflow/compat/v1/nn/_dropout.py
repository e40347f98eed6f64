"""TensorFlow 1's function takes the keep probability as its second argument."""

from __future__ import annotations

from thinned.tensorflow import _arguments, _dropout
from thinned.tensorflow._types import NoiseShape, Scalar, Seed, Tensor, TensorLike


def dropout(
    x: TensorLike,
    keep_prob: Scalar | None = None,
    noise_shape: NoiseShape | None = None,
    seed: Seed = None,
    name: str | None = None,
    rate: Scalar | None = None,
) -> Tensor:
    """Equivalent to `tf.compat.v1.nn.dropout`: its second argument is the probability to **keep**.

    A graph has no training flag: feed a keep probability of 1.0 to evaluate. One graph serves all values.

    Args:
        x: tensor, or what converts to one; float32, float64, float16 or bfloat16.
        keep_prob: probability in [0, 1] to keep; or a tensor of no dimension and x's dtype, a placeholder
            say.
        noise_shape: as for `thinned.tensorflow.nn.dropout`.
        seed: as for `thinned.tensorflow.nn.dropout`: an integer or None draws a new key at each `run`.
        name: of the operation.
        rate: 1 − keep_prob. Exactly one of the two must be given.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: `pass exactly one of rate (drop) or keep_prob (keep), got …`; `x must be float32, …, got
            …`; `keep_prob must be a real number, got …`; `keep_prob must be in [0, 1], got …`; `noise_shape …
            does not fit x of shape …`.
        tf.errors.InvalidArgumentError: `p must be in [0, 1], got …`, where a value was fed.

    Source:
        `tf.compat.v1.nn.dropout`; CONTRACT.md, section 4.

    Example:
        >>> import tensorflow as tf, thinned
        >>> with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        ...     keep_prob = tf.compat.v1.placeholder(tf.float32)
        ...     y = dropout(tf.ones(5), keep_prob, seed=thinned.Key(0))
        ...     for fed in (0.5, 1.0):
        ...         print(session.run(y, {keep_prob: fed}))
        [2. 0. 2. 2. 2.]
        [1. 1. 1. 1. 1.]
    """
    p = _arguments.drop_probability(rate, keep_prob)
    x = _arguments.floating(x, rate=rate, keep_prob=keep_prob)
    key, shared = _arguments.key_of(seed), _arguments.aligned(x, noise_shape)
    return _dropout.dropout(x, p, key=key, training=True, noise_shape=shared, name=name)
