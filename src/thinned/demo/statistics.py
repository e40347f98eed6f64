"""This file computes means over seeds, and words their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, its standard error, and how many seeds there were."""

    mean: float
    error: float
    count: int

    def percent(self, digits: int = 1) -> str:
        """Writes mean and error as percentages with this many digits."""
        return f"{100 * self.mean:.{digits}f} ± {100 * self.error:.{digits}f} %"


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard error of at least two values."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)), len(values))


def difference(a: Sequence[float], b: Sequence[float]) -> Spread:
    """Computes a − b, pair by pair: both were measured on the same split with the same first weights."""
    return spread([x - y for x, y in zip(a, b, strict=True)])


def stands_out(gap: Spread) -> bool:
    """Tells whether 0 lies outside the 95 % confidence interval (Student's t: seeds are few)."""
    return abs(gap.mean) > float(student.ppf(0.975, gap.count - 1)) * gap.error


def in_words(gap: Spread) -> str:
    """A difference of errors in percentage points, and whether it stands out."""
    points = f"{100 * gap.mean:+.2f} ± {100 * gap.error:.2f} points".replace("-", "−")
    return f"{points}, {'more than chance explains' if stands_out(gap) else 'within the error bars'}"
