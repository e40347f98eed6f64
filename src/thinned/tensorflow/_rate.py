"""A drop probability is a number, checked at once, or a tensor, checked when a graph runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned import _arguments
from thinned._arguments import DROP_ALL
from thinned.contract import check_probability, threshold

_VALUES = float(DROP_ALL)


def drop_threshold(p: Any) -> Any:
    """D of p: a number where p's value is known, else an int64 tensor.

    A tensor of a running graph is checked when it runs: `p must be in [0, 1]`, an InvalidArgumentError. XLA
    has no assertions: there D is −1, by which all is kept, and the factor NaN.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.
    """
    if not isinstance(p, tf.Tensor) and not isinstance(p, tf.Variable):
        return threshold(p)
    value = tf.convert_to_tensor(p)
    if not value.dtype.is_floating or not value.shape.is_compatible_with(()):
        raise TypeError(f"p must be a real number, got {value!r}")
    if hasattr(value, "numpy"):
        return threshold(float(value.numpy()))
    wide = tf.cast(value, tf.float64)
    fits = tf.logical_and(wide >= 0.0, wide <= 1.0)
    with tf.control_dependencies([tf.debugging.Assert(fits, ["p must be in [0, 1], got", value])]):
        return tf.where(fits, tf.cast(tf.round(wide * _VALUES), tf.int64), tf.constant(-1, tf.int64))


def check(value: Any, name: str) -> Any:
    """A probability by another name than p, of which a number is checked here."""
    return value if isinstance(value, (tf.Tensor, tf.Variable)) else check_probability(value, name)


def complement(keep: Any) -> Any:
    """1 − keep in double: a float32 tensor's 0.9 drops with 1 − 0.89999998, as any other number does."""
    return 1.0 - (tf.cast(keep, tf.float64) if tf.is_tensor(keep) else keep)


def effect(drop: Any, training: Any, inverted: bool) -> tuple[Any, Any]:
    """`_arguments.effect` where the drop threshold or `training` may be tensors (int64, bool)."""
    if not isinstance(drop, tf.Tensor) and not isinstance(training, tf.Tensor):
        return _arguments.effect(drop, training, inverted)
    drop = tf.convert_to_tensor(drop, tf.int64)
    kept = tf.cast(DROP_ALL - drop, tf.float64)
    one, none = tf.ones((), tf.float64), tf.zeros((), tf.int64)
    if inverted:
        factor = tf.where(drop < 0, one * float("nan"), tf.math.divide_no_nan(one * _VALUES, kept))
        trains, evaluates = (drop, factor), (none, one)
    else:
        bad = tf.where(drop < 0, one * float("nan"), one)
        act = tf.where(tf.equal(drop, DROP_ALL), drop, none)  # `==` of TensorFlow 1 compares identity
        trains, evaluates = (drop, bad), (act, bad * kept / _VALUES)
    if not isinstance(training, tf.Tensor):
        return trains if training else evaluates
    return tuple(tf.where(training, a, b) for a, b in zip(trains, evaluates, strict=True))
