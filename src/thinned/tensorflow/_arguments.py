"""TensorFlow's arguments become ours here: rate and keep_prob a drop probability, seed a key."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from thinned._arguments import check_training
from thinned.contract import Key, check_integer, check_probability
from thinned.tensorflow import _dropout, _key, _rate

_INTEGERS = (tf.int64, tf.int32, tf.uint64, tf.uint32)


def probability(value: Any, name: str) -> Any:
    """A float where the value is known, else the tensor of a running graph, after a check by the name given.

    Raises:
        ValueError: `rate must be a real number, got …`; `rate must be in [0, 1], got …`.
    """
    if not is_symbolic(value):
        try:
            return check_probability(value, name)
        except TypeError as error:  # TensorFlow has one kind of error for both
            raise ValueError(str(error)) from None
    tensor = tf.convert_to_tensor(value)
    if not tensor.dtype.is_floating or tensor.shape.rank not in (None, 0):
        raise ValueError(f"{name} must be a real number, got {value!r}")
    known = tf.get_static_value(tensor)
    if known is not None:
        return check_probability(float(known), name)
    return tf.ensure_shape(tensor, ())


def floating(x: Any, **probabilities: Any) -> Any:
    """X as a tensor, if TensorFlow's functions take it and probabilities of its dtype.

    Raises:
        ValueError: `x must be float32, float64, float16 or bfloat16, got …`; `rate must be a number or of x's
            dtype …`.
    """
    try:
        x = x if isinstance(x, tf.RaggedTensor) else _dropout.check_input(x)
    except TypeError as error:
        raise ValueError(str(error)) from None
    for name, value in probabilities.items():
        if is_symbolic(value) and value.dtype != x.dtype:
            raise ValueError(
                f"{name} must be a number or a tensor of x's dtype, {x.dtype.name}, got {value.dtype.name}: "
                f"tf.cast({name}, x.dtype), or thinned.tensorflow.dropout, which takes any"
            )
    return x


def aligned(x: Any, noise_shape: Any) -> Any:
    """TensorFlow's noise shape with one entry a dimension: a shorter one is that of x's last dimensions."""
    if isinstance(noise_shape, tf.TensorShape):
        noise_shape = noise_shape.as_list()
    if noise_shape is None or isinstance(x, tf.RaggedTensor):
        return noise_shape
    rank, many = x.shape.rank, isinstance(noise_shape, (tuple, list, np.ndarray))
    if many and rank is not None:
        return (1,) * (rank - len(noise_shape)) + tuple(noise_shape)
    if many:
        noise_shape = tf.stack([tf.cast(-1 if entry is None else entry, tf.int64) for entry in noise_shape])
    if not is_symbolic(noise_shape) or (noise_shape.shape.rank == 1 and noise_shape.shape[0] == rank):
        return noise_shape
    entries = tf.reshape(tf.cast(noise_shape, tf.int64), (-1,))
    missing = tf.maximum(tf.rank(x) - tf.size(entries), 0)
    return tf.concat([tf.ones(tf.reshape(missing, (1,)), tf.int64), entries], 0)


def drop_probability(rate: Any, keep_prob: Any) -> Any:
    """The drop probability of the one argument that was given."""
    given = {name: value for name, value in (("rate", rate), ("keep_prob", keep_prob)) if value is not None}
    if len(given) != 1:
        got = " and ".join(f"{name}={value!r}" for name, value in given.items()) or "none of them"
        raise ValueError(f"pass exactly one of rate (drop) or keep_prob (keep), got {got}")
    ((name, value),) = given.items()
    checked = probability(value, name)
    return _rate.complement(checked) if name == "keep_prob" else checked


def key_of(seed: Any) -> Any:
    """The key itself, from a `Key` or an integer tensor of shape (2,); else one drawn at each execution."""
    seed = check_seed(seed)
    return seed if is_key(seed) else _key.draw(seed)


def check_seed(seed: Any) -> Any:
    """Checks a seed: None, an int, a `Key`, or the int64 tensor of one."""
    if seed is None or isinstance(seed, Key):
        return seed
    if is_symbolic(seed) or np.ndim(seed) == 1:
        return pair(seed, "seed")
    return check_integer("seed", seed, "None, an integer, a thinned.Key or an integer tensor of shape (2,)")


def is_key(seed: Any) -> bool:
    """Tells whether a checked seed is a key, or the tensor of one."""
    return isinstance(seed, Key) or tf.is_tensor(seed)


def pair(seed: Any, name: str) -> Any:
    """Two integers, as a `Key` where all that is known is Python's or NumPy's, else as a tensor."""
    if isinstance(seed, Key):
        return seed
    if not is_symbolic(seed):
        kind = "a thinned.Key or two integers, seed and stream"
        if np.ndim(seed) != 1 or len(seed) != 2:
            raise TypeError(f"{name} must be {kind}, got {seed!r}")
        if not any(is_symbolic(word) for word in seed):
            return Key(*(check_integer(name, word, kind) % 2**64 for word in seed))
        seed = tf.stack([tf.cast(word, tf.int64) for word in seed])
    bits = tf.convert_to_tensor(seed)
    if bits.dtype not in _INTEGERS or not bits.shape.is_compatible_with((2,)):
        raise TypeError(
            f"{name} as a tensor must be integers of shape (2,), seed and stream, got {bits.dtype.name} of "
            f"shape {bits.shape}"
        )
    return bits if bits.dtype == tf.int64 else tf.cast(bits, tf.int64)


def flag(training: Any) -> Any:
    """A bool, or the bool tensor of one: a placeholder may have no shape, and Keras's phase is an integer.

    Raises:
        TypeError: `training must be a bool or a bool tensor, got …`; `training is missing: …`.
    """
    if not is_symbolic(training):
        return check_training(training)
    tensor = tf.convert_to_tensor(training)
    if tensor.dtype != tf.bool and not tensor.dtype.is_integer:
        raise TypeError(f"training must be a bool or a bool tensor, got {training!r}")
    return tf.ensure_shape(tf.cast(tensor, tf.bool), ())


def is_symbolic(value: Any) -> bool:
    """Tells whether it is TensorFlow's: a tensor of any kind, or a variable."""
    return bool(tf.is_tensor(value)) or isinstance(value, tf.Variable)
