"""Keras on TensorFlow uses the functions of `thinned.tensorflow`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from thinned import _normal, contract
from thinned._position import Shape
from thinned.contract import Key
from thinned.tensorflow import _dropout, _key, _learned, _philox, _structured
from thinned.tensorflow._compat import recomputations

_WORD = 2**32 - 1


def is_eager(state: Any) -> bool:
    """Tells whether no graph is being built."""
    return tf.executing_eagerly() and not tf.is_symbolic_tensor(state)


def numbers(state: Any) -> npt.NDArray[Any]:
    """The two of an eager state."""
    value: npt.NDArray[Any] = state.numpy()
    return value


def assign(state: Any, value: npt.NDArray[Any]) -> None:
    """Set a state's numbers, eagerly."""
    state.assign(value)


def advance(generator: Any) -> Any:
    """The state before, in a graph that moves it on."""
    return generator.next()


def replica() -> tuple[Any, int]:
    """Return which of how many replicas of a `tf.distribute` strategy this is."""
    return _key.replica()


def blocks(make: Callable[[], Any]) -> Any:
    """The blocks of `tf.recompute_grad` around a call: notes of first runs, and the one that runs again."""
    return recomputations(make)


def derive(state: Any, base: Key | None, name: int, replica: Any, replicas: int) -> Any:
    """The key of a call, in the graph: of the state's seed and a name, or of a base, folded by its number."""
    key = _key.fold(tf.stack([state[0], tf.zeros_like(state[0])]), name) if base is None else base
    number = tf.cast(state[1], tf.int64) & _WORD
    return _key.fold(key, number * replicas + tf.cast(replica, tf.int64))


def dropout(
    x: Any, rate: float, key: Any, training: bool, noise_shape: Any = None, mode: Any = "inverted"
) -> Any:
    """`thinned.tensorflow.dropout`."""
    return _dropout.dropout(x, rate, key=key, training=training, noise_shape=noise_shape, mode=mode)


def keep_mask(shape: Shape, rate: float, key: Key) -> Any:
    """`thinned.tensorflow.keep_mask`."""
    return _dropout.keep_mask(shape, rate, key=key)


# TensorFlow has no attention that computes its probabilities again.
attention = None


def gaussian_dropout(x: Any, rate: float, key: Any) -> Any:
    """Multiply by 1 + σ z, in training."""
    if isinstance(x, tf.RaggedTensor):
        return x.with_flat_values(gaussian_dropout(x.flat_values, rate, key))
    return _multiply(_dropout.check_input(x), _key.check(key), math.sqrt(rate / (1.0 - rate)))


def _multiply(x: Any, key: Any, sigma: float) -> Any:
    """Multiplies with a gradient that makes the noise again: none of it is kept."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def multiply(x: Any) -> Any:
        wide = tf.float64 if x.dtype == tf.float64 else tf.float32
        # The maximum is the product; without it XLA would round product and sum as one.
        spread = tf.maximum(tf.cast(_noise(x, key), wide) * tf.constant(sigma, wide), _normal.LEAST)
        noise = spread + tf.constant(1.0, wide)
        return tf.cast(tf.cast(x, wide) * noise, x.dtype), lambda upstream: _multiply(upstream, key, sigma)

    return multiply(x)


def _noise(x: Any, key: Any) -> Any:
    """Normal deviates in float32."""
    n = tf.size(x, tf.int64)
    high = _halfwords(n, key, contract.PURPOSE_NOISE_HIGH)
    v = tf.cast(high * 65536 + _halfwords(n, key, contract.PURPOSE_NOISE_LOW), tf.float64)
    z = tf.cast(_normal.quantile(v, tf.where, tf.sqrt, tf.math.log), tf.float32)
    return tf.reshape(z, tf.shape(x))


def _halfwords(n: Any, key: Any, purpose: int) -> Any:
    """Returns the halfwords of the first n positions: eight for each call of the generator."""
    low, high = _philox.words(tf.range((n + 7) // 8))
    words = _philox.call(low, high + (purpose << 28), key)
    halves = [half for word in words for half in (word & 0xFFFF, _philox.shift(word, 16))]
    return tf.reshape(tf.stack(halves, axis=1), (-1,))[:n]


def fold(key: Any, number: int) -> Any:
    """`thinned.tensorflow.fold`."""
    return _key.fold(key, number)


def concrete_dropout(x: Any, p: Any, key: Any, temperature: float, noise_shape: Any) -> Any:
    """`thinned.tensorflow.concrete_dropout`, in training."""
    return _learned.concrete_dropout(
        x, p, key=key, training=True, temperature=temperature, noise_shape=noise_shape
    )


def mask_spans(x: Any, width: int, count: int, dim: int, key: Any, value: float) -> Any:
    """`thinned.tensorflow.mask_spans`, in training."""
    return _structured.mask_spans(x, width, count, dim, key=key, training=True, value=value)


def cutout(x: Any, size: Any, rate: float, key: Any, layout: str, value: float) -> Any:
    """`thinned.tensorflow.cutout`, in training."""
    return _structured.cutout(x, size, rate, key=key, training=True, layout=layout, value=value)


def word_dropout(tokens: Any, rate: float, replacement: int, key: Any, protected: tuple[int, ...]) -> Any:
    """`thinned.tensorflow.word_dropout`, in training."""
    return _structured.word_dropout(tokens, rate, replacement, key=key, training=True, protected=protected)
