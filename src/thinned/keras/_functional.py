"""These functions take an exact key and tensors of Keras's active backend."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from thinned._arguments import check_key, check_mode, check_training, requires_training
from thinned._position import Shape, as_shape
from thinned.contract import Key, check_probability
from thinned.keras._added_layer import check_floating
from thinned.keras._backend import active


@requires_training
def dropout(
    x: Any,
    rate: float,
    *,
    key: Key,
    training: bool,
    noise_shape: tuple[int | None, ...] | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
) -> Any:
    """Equivalent to `keras.random.dropout`, by the mask of a key. See `thinned.dropout`.

    Args:
        x: tensor of the active backend, or what `keras.ops.convert_to_tensor` takes; float32, float64,
            float16 or bfloat16.
        rate: drop probability in [0, 1].
        key: the mask's key. Same key, same mask, on every backend.
        training: True drops, False evaluates. Required.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or x's size does not.
        mode: "inverted" multiplies what is kept by 1/(1−rate) and evaluates to x itself; "classic" leaves
            what is kept and evaluates to x · (1−rate).

    Returns:
        A tensor of x's shape and dtype; x itself where nothing changes. What is dropped is +0.0 exactly, and
        so is its gradient.

    Raises:
        TypeError: `training is missing: …`; `key must be a thinned.Key, got …`; for a dtype, the backend's
            front end's.
        ValueError: `rate must be in [0, 1], got …`; `noise_shape … does not fit x of shape …`.

    Source:
        CONTRACT.md, sections 3 and 4.

    Example:
        >>> import thinned
        >>> y = dropout(keras.ops.ones((2, 5)), 0.5, key=thinned.Key(0), training=True)
        >>> keras.ops.convert_to_numpy(y)
        array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    rate, training = check_probability(rate, "rate"), check_training(training)
    check_mode(mode)
    tensor = keras.ops.convert_to_tensor(x)
    return active.dropout(tensor, rate, check_key(key), training, noise_shape, mode)


def keep_mask(shape: Shape, rate: float, *, key: Key) -> Any:
    """The mask itself as a bool tensor of the active backend: True where kept. See `thinned.keep_mask`.

    Example:
        >>> import thinned
        >>> keras.ops.convert_to_numpy(keep_mask(5, 0.5, key=thinned.Key(0)))
        array([ True, False,  True,  True,  True])
    """
    return active.keep_mask(as_shape("shape", shape), check_probability(rate, "rate"), check_key(key))


def r_drop(one: Any, other: Any) -> Any:
    """The mean over two directions of the Kullback-Leibler divergence of two passes' logits.

    Two calls of a model have two masks. Add it to the mean of the two losses, times the paper's α, 1 to 5.

    Args:
        one: (N, classes), or (N, …, classes): logits of the first pass.
        other: those of the second.

    Returns:
        A tensor of no dimension: the mean over the samples, of half the sum of both directions.

    Raises:
        ValueError: `one and other must be of one shape, got …`.

    Source:
        Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021, equation 2.

    Example:
        >>> import keras
        >>> bool(r_drop(keras.ops.array([[0.0, 1.0]]), keras.ops.array([[1.0, 0.0]])) > 0)
        True
    """
    one, other = ops.convert_to_tensor(one), ops.convert_to_tensor(other)
    check_floating(one, "one")
    check_floating(other, "other")
    if not len(one.shape):
        raise ValueError("one and other must be (N, classes), got shape ()")
    if tuple(one.shape) != tuple(other.shape):
        raise ValueError(
            f"one and other must be of one shape, got {tuple(one.shape)} and {tuple(other.shape)}"
        )
    p, q = ops.log_softmax(one, -1), ops.log_softmax(other, -1)
    # A class that both passes hide by −inf has no share; ∞ − ∞ would be NaN.
    hidden = ops.logical_and(ops.isinf(p), ops.isinf(q))
    p, q = (ops.where(hidden, ops.zeros_like(p), each) for each in (p, q))
    return ops.mean(ops.sum((ops.exp(p) - ops.exp(q)) * (p - q), -1)) / 2.0
