"""Intervals of measures, and of their differences, by resampling the inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from scipy.stats import bootstrap  # type: ignore[import-untyped]

from thinned.mc._losses import Losses
from thinned.mc._measures import Doubles, calibration

LEVEL: Final = 0.95
_SEED: Final = 0  # of the resampling: a report comes out the same again


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether the figure stands out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Table:
    """Estimates of one measure, by candidate: weight scaling, then each k of the ladder.

    Attributes:
        values: of each candidate.
        differences: Monte Carlo less weight scaling, for each k.
        verdict: the last difference again, in an interval so wide that all measures together are at 95 %.
        resampled: the values in each resample, shape (candidates, resamples).
    """

    values: tuple[Estimate, ...]
    differences: tuple[Estimate, ...]
    verdict: Estimate
    resampled: Doubles


def tables(losses: Losses, bins: int, resamples: int, tick: Callable[[], object]) -> dict[str, Table]:
    """Every measure with its intervals.

    All candidates and measures meet the same resamples, so that differences are paired. Means get percentile
    intervals. A calibration error is biased upwards, in a resample once more, and the basic interval takes
    that off: in simulations of 200 and 1,600 inputs with a true error from 0.02 to 0.09, 95 % intervals held
    it in 85 to 92 % of runs, percentile intervals in 0 to 93 %; a true error of 0 in 55 % and never.
    """
    everything = np.arange(len(next(iter(losses.means.values()))))
    point = _with_differences(_measure(losses, bins, everything))

    def flat(index: Any) -> Any:
        tick()
        return _with_differences(_measure(losses, bins, index)).ravel()

    found = partial(bootstrap, (everything,), flat, vectorized=False, rng=_SEED)
    drawn = found(n_resamples=resamples, method="percentile")
    resampled = drawn.bootstrap_distribution.reshape(*point.shape, resamples)

    def limits(method: str, level: float) -> Doubles:
        at = found(n_resamples=0, bootstrap_result=drawn, method=method, confidence_level=level)
        return np.stack([at.confidence_interval.low, at.confidence_interval.high]).reshape(2, *point.shape)

    corrected = 1 - (1 - LEVEL) / len(point)  # Bonferroni's
    result = {}
    for row, name in enumerate(names(losses)):
        method = "basic" if name == "calibration" else "percentile"
        each, family = (limits(method, level)[:, row] for level in (LEVEL, corrected))
        result[name] = _table(point[row], each, family, resampled[row])
    return result


def _table(point: Doubles, each: Doubles, family: Doubles, resampled: Doubles) -> Table:
    count = (len(point) + 1) // 2
    # No measure is negative; a basic interval may be.
    each[:, :count] = np.maximum(each[:, :count], 0.0)
    estimates = [
        Estimate(float(v), float(low), float(high)) for v, low, high in zip(point, *each, strict=True)
    ]
    verdict = Estimate(float(point[-1]), float(family[0, -1]), float(family[1, -1]))
    return Table(tuple(estimates[:count]), tuple(estimates[count:]), verdict, resampled[:count])


def names(losses: Losses) -> tuple[str, ...]:
    """The measures, in the order of `_measure`."""
    return (*losses.means, "calibration") if losses.confidence else ("rmse",)


def _measure(losses: Losses, bins: int, index: Any) -> Doubles:
    """Every measure of every candidate over these inputs, shape (measures, candidates)."""
    rows = [loss[index].mean(axis=0) for loss in losses.means.values()]
    if not losses.confidence:
        return np.asarray(np.sqrt(np.stack(rows)), np.float64)
    pairs = zip(losses.confidence, losses.correct, strict=True)
    rows.append(np.array([_calibration(sure[:, index], right[:, index], bins) for sure, right in pairs]))
    return np.stack(rows)


def _calibration(confidence: Any, correct: Any, bins: int) -> float:
    """The mean over groups of draws."""
    found = [calibration(sure, right, bins) for sure, right in zip(confidence, correct, strict=True)]
    return float(np.mean(found))


def _with_differences(values: Doubles) -> Doubles:
    return np.concatenate([values, values[:, 1:] - values[:, :1]], axis=1)
