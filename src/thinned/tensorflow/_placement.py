"""The mask position of each element is computed here, for known shapes and for a running graph's."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from thinned._position import as_shape, positions, row_major


class Place(NamedTuple):
    """Position of the first element and the way to the others: numbers, or int64 tensors.

    Attributes:
        base: position of the first element.
        strides: one for each dimension of x, 0 where the decision is shared; None for row-major ones.
        dense: positions run without a gap through what is left of x when its shared dimensions are cut to 1.
    """

    base: Any
    strides: Any
    dense: bool


WHOLE = Place(0, None, True)


def place(x: Any, noise_shape: Any = None, global_shape: Any = None, start: Any = None) -> Place:
    """The place of x, a tensor.

    Raises:
        ValueError: naming both shapes, where they do not fit and that is known.
        tf.errors.InvalidArgumentError: the same, when it shows in a running graph.
    """
    if noise_shape is None and global_shape is None and start is None:
        return WHOLE
    noise, whole, first = (_numbers(value) for value in (noise_shape, global_shape, start))
    shape = x.shape
    if shape.is_fully_defined() and not any(isinstance(value, tf.Tensor) for value in (noise, whole, first)):
        return _known(tuple(shape), noise, whole, first)
    return _running(x, noise, whole, first)


def _known(shape: tuple[int, ...], noise: Any, whole: Any, first: Any) -> Place:
    base, strides = positions(shape, noise, whole, first)
    if strides is None or _same(strides, row_major(shape), shape):
        return Place(base, None, True)
    cut = tuple(1 if not stride else size for stride, size in zip(strides, shape, strict=True))
    return Place(base, strides, _same(strides, row_major(cut), cut))


def _same(strides: tuple[int, ...], others: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """A stride along a dimension of one element leads nowhere."""
    return all(size < 2 or a == b for a, b, size in zip(strides, others, shape, strict=True))


def _numbers(shape: Any) -> Any:
    """A shape as numbers if they are known, else as a tensor, with those among the entries packed into it."""
    if isinstance(shape, tf.TensorShape):
        shape = shape.as_list()
    if isinstance(shape, (tuple, list)) and any(isinstance(entry, tf.Tensor) for entry in shape):
        shape = tf.stack([tf.cast(-1 if entry is None else entry, tf.int64) for entry in shape])
    if not isinstance(shape, tf.Tensor):
        return shape
    known = tf.get_static_value(shape)
    if known is None:
        return tf.cast(shape, tf.int64)
    return tuple(None if entry == -1 else int(entry) for entry in known)


def _running(x: Any, noise: Any, whole: Any, first: Any) -> Place:
    sizes = tf.shape(x, tf.int64)
    shared, checks = _shared(x, sizes, noise)
    if whole is None:
        if first is not None:
            raise ValueError(f"start={first!r} needs global_shape: the shape of the array it is a part of")
        full, begin = sizes, tf.zeros_like(sizes)
    else:
        full, enough = _entries("global_shape", whole, sizes)
        begin, also = (tf.zeros_like(full), None) if first is None else _entries("start", first, sizes)
        inside = tf.logical_and(begin >= 0, begin + sizes <= full)
        checks += [enough, also, _check(inside, "x reaches outside global_shape", sizes, begin, full)]
    with tf.control_dependencies([check for check in checks if check is not None]):
        mask_sizes = tf.where(shared, tf.ones_like(full), full)
        total = tf.reduce_prod(tf.cast(mask_sizes, tf.float64))
    few = _check(total <= 2.0**63, "a mask has at most 2^63 positions, got shape", mask_sizes)
    with tf.control_dependencies([few]):
        steps = tf.math.cumprod(mask_sizes, exclusive=True, reverse=True)
        strides = tf.where(shared, tf.zeros_like(steps), steps)
    return Place(tf.reduce_sum(begin * strides), strides, whole is None)


def _shared(x: Any, sizes: Any, noise: Any) -> tuple[Any, list[Any]]:
    if noise is None:
        return tf.zeros_like(sizes, tf.bool), []
    noise, enough = _entries("noise_shape", noise if isinstance(noise, tf.Tensor) else _fit(x, noise), sizes)
    entries = tf.where(tf.equal(noise, -1), sizes, noise)  # `==` of TensorFlow 1 compares identity
    shared = tf.equal(entries, 1)
    fits = tf.logical_or(shared, tf.equal(entries, sizes))
    return shared, [enough, _check(fits, "noise_shape does not fit x", entries, sizes)]


def _entries(name: str, value: Any, sizes: Any) -> tuple[Any, Any]:
    """Returns one entry for each dimension of x, as a tensor, and its check where only a graph can tell."""
    tensor = value if isinstance(value, tf.Tensor) else tf.constant(as_shape(name, value), tf.int64)
    if not tensor.shape.is_compatible_with(sizes.shape):
        raise ValueError(
            f"{name} of shape {tensor.shape} does not fit x of {sizes.shape[0]} dimensions: give one entry a "
            "dimension"
        )
    if tensor.shape.is_fully_defined() and sizes.shape.is_fully_defined():
        return tensor, None
    n = tf.size(sizes)
    enough = _check(tf.equal(tf.size(tensor), n), f"{name} needs one entry a dimension of x", tensor, sizes)
    if tensor.shape.is_fully_defined():  # how many there are is known here, and not of x
        with tf.control_dependencies([enough]):
            return tf.identity(tensor), enough
    # Of the right length in any case, so that no other operator fails first, with less to say.
    fitted = tf.concat([tf.reshape(tensor, (-1,)), tf.ones_like(sizes)], 0)[:n]
    fitted.set_shape(sizes.shape)
    return fitted, enough


def _fit(x: Any, noise: Any) -> Any:
    """The entries as a tensor, −1 for None, after a check against what is known of x's shape."""
    entries = tuple(noise)
    rank = x.shape.rank
    known = [None] * len(entries) if rank is None else x.shape.as_list()
    if len(entries) == len(known):
        stand_in = [
            size if size is not None else n or 1 for n, size in zip(entries, known, strict=True)
        ]  # what x's size has to be, where it is not known
        positions(tuple(stand_in), entries)
    else:
        positions(tuple(1 if size is None else size for size in known), entries)
    return tf.constant([-1 if n is None else n for n in entries], tf.int64)


def _check(holds: Any, message: str, *data: Any) -> Any:
    return tf.debugging.Assert(tf.reduce_all(holds), [message, *data])


def count(shape: Any) -> Any:
    """Tells how many elements: a number where the sizes are, else a tensor."""
    return tf.reduce_prod(shape) if isinstance(shape, tf.Tensor) else math.prod(shape)
