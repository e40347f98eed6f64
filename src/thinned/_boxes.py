"""Blocks, spans and boxes are computed here, in any library's operators or in NumPy.

Of a mask's 32-bit number the first 24 bits are a share of 2^24; the products here are exact, so that all
front ends mask alike.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from thinned.contract import check_integer


def share(word: Any, size: Any) -> Any:
    """⌊size · (first 24 bits of the word) / 2^24⌋, an integer from 0 to size − 1."""
    return (word // 2**8) * size // 2**24


def spans(words: Any, width: int, size: int, at: Any) -> Any:
    """True inside a span.

    Args:
        words: (N, count, 2); of each span its width's number and its beginning's.
        width: the widest span.
        size: of the dimension.
        at: 0 … size − 1.

    Returns:
        (N, count, size).
    """
    wide = share(words[:, :, 0, None], width + 1)
    first = share(words[:, :, 1, None], size - wide + 1)
    return (at >= first) & (at < first + wide)


def box(words: Any, sides: tuple[int, int], at: tuple[Any, Any], sizes: tuple[Any, Any]) -> Any:
    """True inside a box whose centre is anywhere.

    Args:
        words: (N, 2 or more); of each box its centre's row and column.
        sides: height and width.
        at: the rows' and the columns' numbers.
        sizes: how many there are of each.

    Returns:
        (N, H, W).
    """
    inside = []
    for axis, side in enumerate(sides):
        first = share(words[:, axis, None], sizes[axis]) - side // 2
        inside.append((at[axis] >= first) & (at[axis] < first + side))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]


def check_numbers(width: Any, count: Any, dim: Any) -> tuple[int, int, int]:
    """Refuse what spans of no array have."""
    numbers = check_integer("width", width), check_integer("count", count), check_integer("dim", dim)
    if numbers[0] < 0:
        raise ValueError(f"width must be from 0 to the size of dim, got {width}")
    if numbers[1] < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return numbers


def check_value(value: Any) -> Any:
    """Checks the value that is written into spans and boxes: one number, or it changes the result's shape."""
    if isinstance(value, float):
        return value
    if isinstance(value, (str, bool, type(None))) or np.ndim(value):
        got = f"an array of shape {np.shape(value)}" if np.ndim(value) else repr(value)
        raise TypeError(f"value must be a number, got {got}")
    return value


def check_size(size: Any) -> tuple[int, int]:
    """Height and width of a box."""
    given = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    sides = tuple(check_integer("size", side) for side in given)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"size must be positive, a number or height and width, got {size}")
    return sides[0], sides[1]


def check_spans(width: Any, count: Any, dim: Any, shape: tuple[Any, ...]) -> None:
    """Refuse spans that do not fit an array of this shape."""
    check_numbers(width, count, dim)
    rank = len(shape)
    if not -rank <= dim < rank or not dim % max(rank, 1) > 0:
        raise ValueError(f"dim must be another than the samples', 0, got {dim} for shape {tuple(shape)}")
    if isinstance(shape[dim], int) and width > shape[dim]:
        raise ValueError(f"width must be from 0 to the size of dim, {shape[dim]}, got {width}")


def check_box(size: Any, layout: str, shape: tuple[Any, ...]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Height and width of a box, and the dimensions N, H, W and C."""
    if not isinstance(layout, str) or sorted(layout) != sorted("NHWC") or len(shape) != 4:
        raise ValueError(
            f'layout must have the letters N, H, W and C once each, and x as many dimensions: got "{layout}" '
            f"and shape {tuple(shape)}"
        )
    return check_size(size), tuple(layout.index(letter) for letter in "NHWC")


# Newton's method on a convex function from below is monotone and takes about ten; this bounds a wrong one.
_ITERATIONS = 200


def clamp(block_size: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """A block no larger than its map."""
    return tuple(min(block, size) for block, size in zip(block_size, sizes, strict=True))


@functools.lru_cache(maxsize=1024)
def seed_rate(p: float, sizes: tuple[int, ...], block: tuple[int, ...]) -> float:
    """The probability of a seed at which an element of the map is dropped with probability p on average.

    An element that n of the blocks cover is kept where none of their n seeds fires: the mean of (1 − γ)ⁿ over
    the map is 1 − p. In t = −log(1 − γ) the logarithm of that mean is convex and decreasing.
    """
    if p in (0.0, 1.0):
        return p
    n, share = _cover(sizes, block)
    target, t = np.log1p(-p), 0.0
    for _ in range(_ITERATIONS):
        each = np.exp(-n * t)
        excess = np.log1p(share @ np.expm1(-n * t)) - target
        further = t + excess * (share @ each) / (share @ (n * each))
        if further <= t:
            break
        t = further
    return float(-np.expm1(-t))


def _cover(sizes: tuple[int, ...], block: tuple[int, ...]) -> tuple[Any, Any]:
    """Counts the blocks that cover an element: the numbers that occur, and the share of the map with each."""
    numbers, shares = np.ones(1), np.ones(1)
    for size, one in zip(sizes, block, strict=True):
        index = np.arange(size)
        along = np.minimum(index, size - one) - np.maximum(index - one + 1, 0) + 1
        values, counts = np.unique(along, return_counts=True)
        numbers = np.outer(numbers, values).ravel()
        shares = np.outer(shares, counts / size).ravel()
    return numbers, shares
