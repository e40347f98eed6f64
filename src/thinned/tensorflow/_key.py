"""A key is a tensor here, so that no graph depends on its value: int64, (2,), seed and stream."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned import _kernel
from thinned._arguments import check_key, signed
from thinned.contract import Key, fold_number
from thinned.tensorflow import _operation
from thinned.tensorflow._types import AnyKey, Tensor, as_written


def check(key: Any) -> Any:
    """The key as a tensor, from a `Key` or an integer tensor of shape (2,).

    Raises:
        TypeError: `key must be a thinned.Key, got …`; `key as a tensor must be int64 or int32 of shape …`.
    """
    if not isinstance(key, (tf.Tensor, tf.Variable)):
        key = check_key(key)
        return tf.constant((signed(key.seed), signed(key.stream)), tf.int64)
    bits = tf.convert_to_tensor(key)
    if bits.dtype not in (tf.int64, tf.int32) or not bits.shape.is_compatible_with((2,)):
        raise TypeError(
            f"key as a tensor must be int64 or int32 of shape (2,), its seed and stream, got "
            f"{bits.dtype.name} of shape {bits.shape}"
        )
    return bits if bits.dtype == tf.int64 else tf.cast(bits, tf.int64)


def as_key(seed: Any) -> Any:
    """The key that a `seed` argument stands for, as a tensor.

    Args:
        seed: a `Key` or an int tensor of shape (2,) is the key itself; an integer or None draws a fresh one,
            as TensorFlow's own operators do with it.
    """
    return draw(seed) if seed is None or isinstance(seed, int) else check(seed)


@as_written
def draw(seed: int | None = None) -> Any:
    """128 fresh bits at each execution, from TensorFlow's stateful generator: `tf.random.set_seed` holds."""
    bits = tf.random.uniform((2,), tf.int64.min, tf.int64.max, tf.int64, seed)
    number, replicas = replica()  # of which each draws the same numbers, where a seed is given
    return bits if replicas == 1 else fold(bits, number)


@as_written
def fold(key: AnyKey, data: str | int | tf.Tensor | tf.Variable) -> Key | Tensor:
    """Derive a key from a key, as `Key.fold` does, where either may be a tensor, of a graph too.

    Args:
        key: a `thinned.Key`, or an integer tensor of shape (2,): seed and stream as two's complement.
        data: a string, an integer in [0, 2^60), or an integer tensor of no dimension, whose range a graph
            cannot check.

    Returns:
        A `Key` where both are given as values; otherwise an int64 tensor of shape (2,).

    Raises:
        TypeError: `key must be a thinned.Key, got …`; `data must be …`.
        ValueError: `data must be in [0, 2^60), got …`.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import tensorflow as tf
        >>> from thinned import Key
        >>> from thinned.tensorflow import keep_mask
        >>> mask = tf.function(lambda step: keep_mask((1000,), 0.1, key=fold(Key(1), step)))
        >>> other = keep_mask((1000,), 0.1, key=Key(1).fold(3))
        >>> bool(tf.reduce_all(mask(tf.constant(3)) == other))
        True
    """
    if isinstance(data, (tf.Tensor, tf.Variable)):
        return _operation.fold(check(key), tf.cast(data, tf.int64))
    number = fold_number(data)
    if isinstance(key, Key):
        return Key(key.seed, _kernel.fold(key.seed, key.stream, number))
    return _operation.fold(check(key), tf.constant(number, tf.int64))


def replica() -> tuple[Any, int]:
    """Number of this replica of a `tf.distribute` strategy, and how many there are: 0 of 1 outside of one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync
