"""This file says how many units dropout with a fixed number of them keeps, and which.

It is not Bernoulli's: units are kept in equal shares, but not independently of each other. Shapes then depend
on p alone, as compiled code wants them. The numbers u are the contract's, of which its own mask is made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinned.contract import PURPOSE_HIGH, PURPOSE_LOW, Key, halfword, threshold


def kept_units(p: float, size: int) -> int:
    """Tells how many of `size` units are kept: (1 − p) · size to the nearest integer, a half being dropped.

    It is at least 1 where p is below 1, so that the expectation can be the unit itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Example:
        >>> [kept_units(p, 5) for p in (0.0, 0.1, 0.5, 0.9, 1.0)]
        [5, 4, 2, 1, 0]
    """
    drop = threshold(p)
    if drop == 2**32 or not size:
        return 0
    return max(1, size - ((size * drop + 2**31) >> 32))


def scale(size: int, count: int, inverted: bool = True) -> float:
    """Gives what a kept unit is multiplied by: size / count, so that its expectation is itself, or 0."""
    if not count:
        return 0.0
    return size / count if inverted else 1.0


def largest(key: Key, rows: int, size: int, count: int) -> npt.NDArray[np.int64]:
    """Keeps the units with the largest numbers u, and among equal ones those of the lowest positions.

    Args:
        key: of the site.
        rows: decisions, each for a row of the mask of shape (rows, size).
        size: units in a row.
        count: how many are kept.

    Returns:
        Ascending numbers of units, of shape (rows, count).

    Source:
        CONTRACT.md, sections 2 and 3: u(i), which the contract's mask compares with a threshold. What is kept
        at p is kept at every smaller p too.

    Example:
        >>> largest(Key(0), 1, 5, 2)
        array([[0, 3]])
    """
    position = np.arange(rows * size, dtype=np.uint64).reshape(rows, size)
    high, low = (halfword(key, position, purpose).astype(np.int64) for purpose in (PURPOSE_HIGH, PURPOSE_LOW))
    order = np.argsort(-(high << 16 | low), axis=1, kind="stable")
    kept: npt.NDArray[np.int64] = np.sort(order[:, :count], axis=1).astype(np.int64)
    return kept
