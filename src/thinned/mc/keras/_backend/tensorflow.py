"""On TensorFlow these operators take many keys; those of the front end take one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from thinned import _normal, contract
from thinned.contract import inverse_scale, threshold
from thinned.tensorflow import _philox

BYTES = 100  # int64 words, as many as halfwords at a time, and what is computed of them


def keys(pairs: Any) -> Any:
    """Returns keys on the device of the model."""
    return tf.constant(pairs)


def dropout(x: Any, p: float, keys: Any, noise_shape: Any, inverted: bool) -> Any:
    """Key k drops x[k], positions counted from 0 in each."""
    sizes = tuple(x.shape[1:])
    cut = tuple(1 if n == 1 else size for n, size in zip(noise_shape or sizes, sizes, strict=True))
    drop = threshold(p)
    kept = _numbers(cut, keys, contract.PURPOSE_HIGH, contract.PURPOSE_LOW) >= drop
    factor = inverse_scale(drop) if inverted else 1.0
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    value = tf.cast(tf.cast(x, wide) * tf.constant(factor, wide), x.dtype)
    return tf.where(kept, value, tf.zeros((), x.dtype))


def normal(shape: tuple[int, ...], keys: Any) -> Any:
    """Normal deviates of each key, float32, shape (keys, *shape)."""
    v = _numbers(shape, keys, contract.PURPOSE_NOISE_HIGH, contract.PURPOSE_NOISE_LOW)
    return tf.cast(_normal.quantile(tf.cast(v, tf.float64), tf.where, tf.sqrt, tf.math.log), tf.float32)


def single(keys: Any) -> Any:
    """The only key."""
    return keys[0]


def values(variables: list[Any]) -> list[Any]:
    """Returns None: a function reads variables when it runs."""
    return []


def look(function: Callable[..., Any], found: list[int], x: Any) -> None:
    """Run it."""
    function(found, x)


def quiet() -> Any:
    """TensorFlow keeps nothing without a tape."""
    return nullcontext()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a graph, for arguments of the first call's shapes."""
    traced = tf.function(function, autograph=False)
    made: list[Any] = []

    def run(*arguments: Any) -> Any:
        if not made:  # or TensorFlow warns of the many functions that many predictions make
            made.append(traced.get_concrete_function(*arguments))
        return made[0](*arguments)

    return run


def _numbers(shape: tuple[int, ...], keys: Any, high: int, low: int) -> Any:
    """The 32-bit numbers of two purposes, int64, shape (keys, *shape)."""
    return tf.reshape(_function(math.prod(shape), high, low)(keys), (-1, *shape))


@functools.cache
def _function(n: int, high: int, low: int) -> Any:
    """Makes the first n positions' mask in a function that graphs call: most of a graph was masks."""

    def numbers(keys: Any) -> Any:
        return _halfwords(n, keys, high) * 65536 + _halfwords(n, keys, low)

    return tf.function(numbers, [tf.TensorSpec((None, 2), tf.int64)], autograph=False)


def _halfwords(n: int, keys: Any, purpose: int) -> Any:
    """Eight for each call of the generator."""
    low, high = _philox.words(tf.range((n + 7) // 8, dtype=tf.int64)[tf.newaxis])
    each = tf.transpose(keys)[:, :, tf.newaxis]
    words = _philox.call(low, high + (purpose << 28), each)
    halves = [half for word in words for half in (word & 0xFFFF, _philox.shift(word, 16))]
    return tf.reshape(tf.stack(halves, axis=-1), (tf.shape(keys)[0], -1))[:, :n]
