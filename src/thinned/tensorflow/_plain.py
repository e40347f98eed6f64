"""The contract is written here in TensorFlow's operators: for every device, XLA and saved models.

Drop thresholds, factors and places are numbers, or tensors (int64, float64, int64); one code serves both.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned._arguments import DROP_ALL
from thinned._philox import halfword
from thinned.contract import PURPOSE_HIGH, PURPOSE_LOW
from thinned.tensorflow import _philox
from thinned.tensorflow._placement import Place, count


def dropout(x: Any, key: Any, drop: Any, factor: Any, place: Place) -> Any:
    """Kept → x · factor, dropped → +0.0."""
    kept = _kept(sizes(x), key, drop, place)
    factor = tf.convert_to_tensor(factor, tf.float64)
    if x.dtype == tf.float64:
        value = x * factor
    else:
        value = tf.cast(tf.cast(x, tf.float32) * tf.cast(factor, tf.float32), x.dtype)
    return tf.where(kept, value, tf.zeros((), x.dtype))


def keep_mask(shape: Any, key: Any, drop: Any, place: Place) -> Any:
    """True where kept."""
    return tf.broadcast_to(_kept(shape, key, drop, place), shape)


def sizes(x: Any) -> Any:
    """X's shape: numbers where all are known, else a tensor."""
    return tuple(x.shape) if x.shape.is_fully_defined() else tf.shape(x, tf.int64)


def numbers(shape: Any, key: Any, place: Place) -> Any:
    """The 32-bit numbers u, int64, of a shape that broadcasts to this one."""
    return _of_each(shape, key, None, place)


def _kept(shape: Any, key: Any, drop: Any, place: Place) -> Any:
    """True where kept, of a shape that broadcasts to this one."""
    if isinstance(drop, int) and drop in (0, DROP_ALL):
        return tf.constant(drop == 0)
    return _of_each(shape, key, drop, place)


def _of_each(shape: Any, key: Any, drop: Any, place: Place) -> Any:
    """Tells whether a position is kept; its number where there is no threshold."""
    if place.strides is not None:
        shape = _cut(shape, place.strides)
    if place.dense:
        return tf.reshape(_run(key, place.base, count(shape), drop), shape)
    return tf.reshape(scattered(key, _positions(shape, place), drop), shape)


def _cut(shape: Any, strides: Any) -> Any:
    """The shape with 1 where the decision is shared."""
    if isinstance(shape, tf.Tensor) or isinstance(strides, tf.Tensor):
        shape = _philox.int64(shape)
        return tf.where(tf.equal(_philox.int64(strides), 0), tf.minimum(shape, _philox.int64(1)), shape)
    return tuple(min(size, 1) if not stride else size for size, stride in zip(shape, strides, strict=True))


def _run(key: Any, base: Any, n: Any, drop: Any) -> Any:
    """Computes n neighbouring positions: one call of the generator for eight."""
    skipped = base & 7
    blocks = (n + (skipped if isinstance(skipped, int) else 7) + 7) // 8
    words = _words(tf.range(_philox.int64(blocks)) + _philox.shift(_philox.int64(base), 3), key, drop)
    low, sixteen, kept = _philox.int64(0xFFFF), _philox.int64(16), []
    for word in words:
        for half in (word & low, tf.bitwise.right_shift(word, sixteen)):
            kept.append(_at_least(half, drop))
    run = tf.reshape(tf.stack(kept, axis=1), (-1,))
    return tf.slice(run, [_philox.int64(skipped)], [_philox.int64(n)])


def scattered(key: Any, position: Any, drop: Any) -> Any:
    """Tells of positions in any order whether each is kept; gives their numbers where `drop` is None."""
    words = _words(_philox.shift(position, 3), key, drop)
    return _at_least(halfword(words, position, tf.where, _philox.shift), drop)


def _words(block: Any, key: Any, drop: Any) -> tuple[Any, Any, Any, Any]:
    """Four words of each block, in rows: for h_0 and, unless that alone decides everywhere, for h_1."""
    low, high = _philox.words(block)
    purposes = [PURPOSE_HIGH] if _high_decides(drop) else [PURPOSE_HIGH, PURPOSE_LOW]
    return _philox.call(low, high + _philox.int64([[purpose << 28] for purpose in purposes]), key)


def _at_least(halves: Any, drop: Any) -> Any:
    """U ≥ D, from the rows h_0 and, where there is one, h_1 (CONTRACT.md, section 3); U itself without D."""
    if _high_decides(drop):
        return halves[0] >= drop >> 16
    if drop is None:
        return halves[0] * 65536 + halves[1]
    return halves[0] * 65536 + halves[1] >= drop


def _high_decides(drop: Any) -> bool:
    return isinstance(drop, int) and drop % 65536 == 0


def _positions(shape: Any, place: Place) -> Any:
    rank = place.strides.shape[0] if isinstance(place.strides, tf.Tensor) else len(place.strides)
    position = tf.reshape(_philox.int64(place.base), (1,) * rank)
    for axis in range(rank):
        steps = tf.range(_philox.int64(shape[axis])) * _philox.int64(place.strides[axis])
        position += tf.reshape(steps, (-1,) + (1,) * (rank - axis - 1))
    return tf.reshape(position, (-1,))
