"""Intervals of measures, and of their differences, are computed here by resampling the inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from scipy.stats import bootstrap  # type: ignore[import-untyped]

from thinned.mc._losses import Losses
from thinned.mc._measures import Doubles

LEVEL: Final = 0.95
_SEED: Final = 0  # of the resampling: a report comes out the same again
_WEIGHTS: Final = 1 << 22  # numbers that count inputs in resamples, at a time: 32 MiB in double


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Tells whether the figure stands out."""
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
    count = len(next(iter(losses.means.values())))
    everything = np.arange(count)
    point = _with_differences(_measure(losses, bins, np.ones((1, count))))[..., 0]

    def flat(index: Any, axis: int) -> Any:
        """All figures of one resample, or of each of several, which are the last axis then."""
        weights = _weights(index.reshape(-1, count))
        for _ in weights:
            tick()
        figures = _with_differences(_measure(losses, bins, weights)).reshape(-1, len(weights))
        return figures if index.ndim > 1 else figures[:, 0]

    batch = max(1, _WEIGHTS // count)
    found = partial(bootstrap, (everything,), flat, vectorized=True, batch=batch, rng=_SEED)
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
        signed = name == "nll" and not losses.confidence  # of densities, which may exceed 1
        result[name] = _table(point[row], each, family, resampled[row], signed)
    return result


def _table(point: Doubles, each: Doubles, family: Doubles, resampled: Doubles, signed: bool) -> Table:
    count = (len(point) + 1) // 2
    if not signed:  # a basic interval may be below 0
        each[:, :count] = np.maximum(each[:, :count], 0.0)
    estimates = [
        Estimate(float(v), float(low), float(high)) for v, low, high in zip(point, *each, strict=True)
    ]
    verdict = Estimate(float(point[-1]), float(family[0, -1]), float(family[1, -1]))
    return Table(tuple(estimates[:count]), tuple(estimates[count:]), verdict, resampled[:count])


def names(losses: Losses) -> tuple[str, ...]:
    """The measures, in the order of `_measure`."""
    if losses.confidence:
        return (*losses.means, "calibration")
    return tuple("rmse" if name == "squared" else name for name in losses.means)


def _weights(index: Any) -> Doubles:
    """Counts each input in each resample, from resamples of indices, shape (resamples, inputs)."""
    rows, count = index.shape
    apart = index + count * np.arange(rows)[:, np.newaxis]
    return np.bincount(apart.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _measure(losses: Losses, bins: int, weights: Doubles) -> Doubles:
    """Every measure of every candidate, over inputs of these weights: (measures, candidates, resamples).

    A resample is how often each input is in it, so a measure of many resamples is a matrix product.
    """
    count = weights.shape[1]
    rows = [(weights @ loss).T / count for loss in losses.means.values()]
    if not losses.confidence:
        roots = (name == "squared" for name in losses.means)
        return np.stack([np.sqrt(row) if root else row for row, root in zip(rows, roots, strict=True)])
    candidates = zip(losses.confidence, losses.correct, strict=True)
    rows.append(np.stack([_calibration(*candidate, bins, weights) for candidate in candidates]))
    return np.stack(rows)


def _calibration(confidence: Any, correct: Any, bins: int, weights: Doubles) -> Doubles:
    """The calibration error of each resample, the mean over groups of draws."""
    found = []
    for sure, right in zip(confidence, correct, strict=True):
        # Of a bin: share · |accuracy − confidence| = |sum of their differences| / inputs.
        apart = np.zeros((len(sure), bins + 1))
        apart[np.arange(len(sure)), _bins(sure, bins)] = right - sure
        found.append(np.abs(weights @ apart).sum(axis=1) / len(sure))
    return np.asarray(np.mean(found, axis=0), np.float64)


def _bins(confidence: Doubles, bins: int) -> Any:
    """The bin of each confidence, as torchmetrics has them; 1 has one of its own."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    return torch.bucketize(torch.from_numpy(confidence), edges, right=True).numpy() - 1


def _with_differences(values: Doubles) -> Doubles:
    return np.concatenate([values, values[:, 1:] - values[:, :1]], axis=1)
