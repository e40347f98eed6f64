"""TensorFlow 2 has two functions, `dropout` and `experimental.general_dropout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from thinned.contract import Key
from thinned.tensorflow import _arguments, _dropout
from thinned.tensorflow._types import NoiseShape, Scalar, Seed, Tensor, TensorLike


def dropout(
    x: TensorLike,
    rate: Scalar,
    noise_shape: NoiseShape | None = None,
    seed: Seed = None,
    name: str | None = None,
) -> Tensor:
    """Equivalent to `tf.nn.dropout`: it drops at every call, in training or not.

    Args:
        x: tensor, or what converts to one; float32, float64, float16 or bfloat16.
        rate: probability in [0, 1] to drop; or a tensor of no dimension and x's dtype, whose values share a
            graph.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or x's size does not. Also a
            tensor, or with tensors among its entries. A shorter one is that of x's last dimensions, and is
            shared along the first.
        seed: a `thinned.Key`, or an integer tensor of shape (2,), is the mask's key: same key, same mask. An
            integer or None is what it is to TensorFlow: a new key is drawn at each execution, and
            `tf.random.set_seed` decides which.
        name: of the operation.

    Returns:
        A tensor of x's shape and dtype; x itself at a rate of 0 that is known beforehand.

    Raises:
        TypeError: `seed must be None, an integer, a thinned.Key or an integer tensor of shape (2,), got …`.
        ValueError: `x must be float32, float64, float16 or bfloat16, got …`; `rate must be a real number, …`;
            `rate must be in [0, 1], got …`; `noise_shape … does not fit x of shape …`.

    Source:
        `tf.nn.dropout`; CONTRACT.md, section 4.

    Example:
        >>> import tensorflow as tf, thinned
        >>> dropout(tf.ones((2, 5)), 0.5, seed=thinned.Key(0)).numpy()
        array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    p = _arguments.probability(rate, "rate")
    x = _arguments.floating(x, rate=rate)
    key, shared = _arguments.key_of(seed), _arguments.aligned(x, noise_shape)
    return _dropout.dropout(x, p, key=key, training=True, noise_shape=shared, name=name)


def stateless_dropout(
    x: TensorLike,
    rate: Scalar,
    seed: Key | Tensor | Sequence[int],
    rng_alg: str | int | tf.random.Algorithm | None = None,
    noise_shape: NoiseShape | None = None,
    name: str | None = None,
) -> Tensor:
    """Equivalent to `tf.nn.experimental.stateless_dropout`: same seed, same mask.

    Args:
        x: as for `dropout`.
        rate: as for `dropout`.
        seed: two integers [a, b], a list or a tensor of shape (2,): the mask is that of `Key(a, b)`, negative
            ones as two's complement. Or a `thinned.Key`.
        rng_alg: one of TensorFlow's names, numbers or `tf.random.Algorithm`s. Without effect: the contract
            has one generator.
        noise_shape: as for `dropout`.
        name: of the operation.

    Returns:
        A tensor of x's shape and dtype; x itself at a rate of 0 that is known beforehand.

    Raises:
        TypeError: `seed must be a thinned.Key or two integers, seed and stream, got …`.
        ValueError: as `dropout`; `rng_alg must be None, "auto_select", "philox" or "threefry", got …`.

    Source:
        `tf.nn.experimental.stateless_dropout`; CONTRACT.md, section 4.

    Example:
        >>> import tensorflow as tf
        >>> stateless_dropout(tf.ones((2, 5)), 0.5, seed=[0, 0]).numpy()
        array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    p = _arguments.probability(rate, "rate")
    x = _arguments.floating(x, rate=rate)
    key, shared = _arguments.pair(seed, "seed"), _arguments.aligned(x, noise_shape)
    _check_algorithm(rng_alg)
    name = name or "stateless_dropout"
    return _dropout.dropout(x, p, key=key, training=True, noise_shape=shared, name=name)


def _check_algorithm(algorithm: Any) -> None:
    value = algorithm.lower() if isinstance(algorithm, str) else algorithm
    if isinstance(value, tf.random.Algorithm) or value is None:
        return
    names = [known.name.lower() for known in tf.random.Algorithm]
    numbers = [known.value for known in tf.random.Algorithm]
    if isinstance(value, bool) or value not in (*names, *numbers):
        raise ValueError(
            f'rng_alg must be None, "auto_select", "philox" or "threefry", or what tf.random.Algorithm calls '
            f"them, got {algorithm!r}"
        )
