"""A verdict holds one measured figure, its target, and whether the target is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Bound:
    """Holds what a figure has to keep to.

    Args:
        sense: whether the limit is an upper (≤) or a lower (≥) one.
        limit: in the figure's unit.
    """

    sense: Literal["≤", "≥"]
    limit: float

    def holds(self, value: float) -> bool:
        """Tells whether the value keeps to it; a NaN never does."""
        return value <= self.limit if self.sense == "≤" else value >= self.limit


def at_most(limit: float) -> Bound:
    """An upper limit, itself allowed."""
    return Bound("≤", limit)


def at_least(limit: float) -> Bound:
    """A lower limit, itself allowed."""
    return Bound("≥", limit)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        what: what was measured, for example "thinned / clone".
        median: over all rounds; the verdict is on this.
        low: lower quartile over all rounds.
        high: upper quartile.
        bound: what is asked of it; None where it is only for orientation.
        unit: "×" for a ratio.
    """

    what: str
    median: float
    low: float
    high: float
    bound: Bound | None = None
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        """Tells whether the median keeps to the bound; None where nothing is asked."""
        return None if self.bound is None else self.bound.holds(self.median)


def spread(values: Sequence[float], what: str, bound: Bound | None = None) -> Figure:
    """The median and the quartiles of one ratio a round.

    Example:
        >>> spread([2.0, 1.0, 3.0], "a / b", at_most(2.0)).met
        True
    """
    low, median, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return Figure(what, median, low, high, bound)


def count(number: int, what: str, unit: str, bound: Bound | None = None) -> Figure:
    """A number that is counted, not timed."""
    return Figure(what, number, number, number, bound, unit)
