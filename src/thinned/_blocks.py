"""DropBlock's seed rate is computed here, so that an element is dropped with probability p."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

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
