"""This file says where each element of x stands in its mask (CONTRACT.md, section 1: position)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thinned.contract import check_integer

Shape = int | Sequence[int]

_MOST = 2**63  # positions
# They compare with a size as numbers do, or not at all.
_NO_SIZES = (bool, float, np.bool_, np.floating, np.ndarray)


def as_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A tuple of sizes, from an integer or a sequence of them; "shape" is that of a whole mask to be made."""
    entries = shape if isinstance(shape, (tuple, list)) else _entries(shape)
    sizes = tuple(check_integer(name, entry, "an integer or a sequence of integers") for entry in entries)
    if any(size < 0 for size in sizes):
        raise ValueError(f"{name} must not be negative, got {sizes}")
    if name == "shape":
        _check_total(sizes)
    return sizes


def positions(
    shape: tuple[int, ...],
    noise_shape: Any = None,
    global_shape: Any = None,
    start: Any = None,
    step: Any = None,
) -> tuple[int, tuple[int, ...] | None]:
    """Position of the first element, and how far one step along each dimension goes, in positions.

    Args:
        shape: x's.
        noise_shape: one entry a dimension: 1 shares the decision along it (stride 0); None or x's size
            does not.
        global_shape: the whole array's, where x is a shard of it.
        start: index of x's first element in the whole array; zeros if not given.
        step: how far apart neighbours of x are in the whole array, along each dimension; ones if not given.

    Returns:
        The first position and the strides; None for those of a whole, unshared mask, which are `row_major`.

    Raises:
        ValueError: naming both shapes, where they do not fit.
    """
    if noise_shape is None and global_shape is None and start is None and step is None:
        return 0, None
    shared = _shared(shape, noise_shape)
    if global_shape is None:
        for name, given in (("start", start), ("step", step)):
            if given is not None:
                raise ValueError(
                    f"{name}={given!r} needs global_shape: the shape of the array it is a part of"
                )
        whole, first, apart = shape, (0,) * len(shape), (1,) * len(shape)
    else:
        whole, first, apart = _shard(shape, global_shape, start, step)
    sizes = tuple(1 if one else size for one, size in zip(shared, whole, strict=True))
    _check_total(sizes)
    base, stride, strides = 0, 1, []
    backwards = (reversed(each) for each in (shape, shared, sizes, first, apart))
    for size, one, total, begin, far in zip(*backwards, strict=True):
        still = isinstance(size, int) and size < 2  # no step is taken: only kept to what an int64 holds
        strides.append(0 if one else min(stride * far, _MOST - 1) if still else stride * far)
        base += 0 if one else begin * stride
        stride *= total
    return base, tuple(reversed(strides))


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense C-order array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def check_numbers(
    name: str, low: int, high: int, most: int | None = None, whole: str = "num_nodes - 1"
) -> None:
    """Refuse numbers of nodes or edges outside the whole: two of them would share a decision."""
    if low < 0 or (most is not None and high >= most):
        whole = "0 on" if most is None else f"0 to {whole} = {most - 1}"
        raise ValueError(f"{name} must be numbers from {whole}, got {low} to {high}")


def noise_of_names(layout: str, independent: str) -> tuple[int | None, ...]:
    """The noise shape that names say."""
    if len(set(layout)) != len(layout) or not set(independent) <= set(layout):
        raise ValueError(
            f'independent "{independent}" is not in layout "{layout}", or a letter is there twice: give one '
            'letter for each dimension, "NHWC", and those with decisions of their own, "NC"'
        )
    return tuple(None if letter in independent else 1 for letter in layout)


def _check_total(sizes: tuple[int, ...]) -> None:
    # In a program that is to be exported a size may have a name in place of a number.
    if math.prod([size for size in sizes if isinstance(size, int)]) > _MOST:  # torch.compile traces lists
        raise ValueError(f"a mask has at most 2^63 positions, got shape {sizes}")


def _entries(shape: Any) -> tuple[Any, ...]:
    """A sequence's entries, or the one number that it is; of an array of more dimensions, nested lists."""
    if getattr(shape, "ndim", 1) > 1:
        return tuple(shape.tolist())
    try:
        return tuple(shape)
    except TypeError:
        return (shape,)


def _shared(shape: tuple[int, ...], noise_shape: Any) -> tuple[bool, ...]:
    if noise_shape is None:
        return (False,) * len(shape)
    noise = tuple(noise_shape) if isinstance(noise_shape, (tuple, list)) else _entries(noise_shape)
    fits = len(noise) == len(shape) and all(
        n is None or (not isinstance(n, _NO_SIZES) and n in (1, size))
        for n, size in zip(noise, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"noise_shape {noise} does not fit x of shape {tuple(shape)}: give one entry a dimension, "
            "1 to share the decision along it, None or x's size not to"
        )
    return tuple(n == 1 for n in noise)


def _shard(
    shape: tuple[int, ...], global_shape: Any, start: Any, step: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    whole = as_shape("global_shape", global_shape)
    first = (0,) * len(whole) if start is None else as_shape("start", start)
    apart = (1,) * len(whole) if step is None else as_shape("step", step)
    by = "" if step is None else f" by {apart}"
    if not len(whole) == len(first) == len(apart) == len(shape):
        also = "" if step is None else f" and step {apart}"
        raise ValueError(
            f"global_shape {whole} and start {first}{also} need one entry for each dimension of x, "
            f"shape {tuple(shape)}"
        )
    if 0 in apart:
        raise ValueError(f"step must be positive, got {apart}")
    ends = (
        begin + (size and (size - 1) * far + 1) for begin, size, far in zip(first, shape, apart, strict=True)
    )
    if any(isinstance(total, int) and total > _MOST for total in whole):
        raise ValueError(f"a mask has at most 2^63 positions, got global_shape {whole}")
    if any(end > total for end, total in zip(ends, whole, strict=True)):
        raise ValueError(f"x of shape {tuple(shape)} from {first}{by} reaches outside global_shape {whole}")
    return whole, first, apart
