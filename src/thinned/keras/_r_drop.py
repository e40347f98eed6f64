"""R-Drop: two passes of a batch with two masks, which are to agree."""

from __future__ import annotations

from typing import Any

from keras import ops

from thinned.keras._own import check_floating


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
