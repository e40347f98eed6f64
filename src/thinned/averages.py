"""The averages experiment shows why kept values are scaled. `thinned averages` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from thinned import Key
from thinned._numpy import thinned_dots
from thinned.contract import check_integer, check_probability

Vector = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SIZE: Final = 1_000_000
MASKS: Final = 1000
KEEP: Final = (1.0, 0.7, 0.5, 0.3)

_DRAWS: Final = (
    32  # in one call: enough that x and W are read from the nearest cache, few enough for progress
)


@dataclass(frozen=True)
class Statistics:
    """Holds the statistics of one activation over all masks.

    Args:
        mean: the average.
        deviation: standard deviation over masks.
        error: standard error of the mean, deviation / √masks.
    """

    mean: float
    deviation: float
    error: float


@dataclass(frozen=True)
class KeepRate:
    """Holds what one keep rate did to the activation.

    Args:
        keep: the keep rate, in (0, 1].
        expected: keep · ΣW, the mean of the unscaled activation over all masks there are.
        unscaled: W · (x∘mask).
        scaled: W · (x∘mask) / keep.
    """

    keep: float
    expected: float
    unscaled: Statistics
    scaled: Statistics


@dataclass(frozen=True)
class Averages:
    """The whole experiment.

    Args:
        size: elements of x and W.
        masks: masks drawn for each keep rate.
        seed: what W and the masks were drawn from.
        total: ΣW, the activation without dropout.
        rates: one entry a keep rate, in the order given.
        seconds: wall time of the drawing, without the making of W.
    """

    size: int
    masks: int
    seed: int
    total: float
    rates: tuple[KeepRate, ...]
    seconds: float


def run(
    size: int = SIZE,
    masks: int = MASKS,
    keep: Sequence[float] = KEEP,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Averages:
    """Average the activation W · x of a vector of ones over many dropout masks.

    Every draw is a real mask over the real x, and a real dot product. Draw d of a keep rate takes row d of
    one mask of shape (masks, size), so no two draws share a random number, and threads change nothing. Mask,
    multiplication and sum are one pass of the kernel.

    Args:
        size: elements of x (all 1) and of W (standard normal), at least 1.
        masks: masks for each keep rate, at least 2.
        keep: keep rates, each in (0, 1].
        seed: of W and of the masks, in [0, 2^64).
        progress: called with the number of draws done since the last call.

    Returns:
        The statistics of each keep rate.

    Raises:
        TypeError: `size must be an integer, got …`; `keep must be a real number, got …`.
        ValueError: `masks must be at least 2, got …`; `keep must be in (0, 1], got …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, sections 4 and 10.

    Example:
        >>> result = run(size=1000, masks=50, keep=[0.5])
        >>> abs(result.rates[0].scaled.mean - result.total) < 5 * result.rates[0].scaled.error
        True
    """
    size, masks = _at_least("size", size, 1), _at_least("masks", masks, 2)
    rates = [_check_keep(rate) for rate in keep]
    x, weights = np.ones(size, dtype=np.float32), make_weights(size, seed)
    total = float(weights.sum(dtype=np.float64))
    key = Key(seed).fold("averages")
    begin = time.perf_counter()
    drawn = [
        _draw(x, weights, rate, key.fold(index), masks, progress or (lambda done: None))
        for index, rate in enumerate(rates)
    ]
    seconds = time.perf_counter() - begin
    found = tuple(_describe(rate, total, values) for rate, values in zip(rates, drawn, strict=True))
    return Averages(size, masks, seed, total, found, seconds)


def make_weights(size: int, seed: int) -> Vector:
    """W: standard normal numbers, float32, shape (size,)."""
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def _draw(
    x: Vector, weights: Vector, keep: float, key: Key, masks: int, progress: Callable[[int], None]
) -> Doubles:
    """The unscaled activation of every mask, float64, shape (masks,)."""
    parts = []
    for first in range(0, masks, _DRAWS):
        draws = min(_DRAWS, masks - first)
        parts.append(thinned_dots(x, weights, 1.0 - keep, key=key, draws=draws, first=first))
        progress(draws)
    return np.concatenate(parts)


def _describe(keep: float, total: float, unscaled: Doubles) -> KeepRate:
    # The activation is linear in what is kept, so scaling it is scaling every kept value.
    return KeepRate(keep, keep * total, _statistics(unscaled), _statistics(unscaled / keep))


def _statistics(values: Doubles) -> Statistics:
    deviation = float(values.std(ddof=1))
    return Statistics(float(values.mean()), deviation, deviation / float(np.sqrt(values.size)))


def worst_deviation(result: Averages) -> float:
    """Returns the largest distance of a scaled mean from ΣW, in its standard errors; 0 without drops."""
    drawn = [rate.scaled for rate in result.rates if rate.scaled.error > 0 and rate.keep < 1]
    return max((abs(scaled.mean - result.total) / scaled.error for scaled in drawn), default=0.0)


def time_plain_loop(size: int, keep: Sequence[float], seed: int, draws: int) -> float:
    """Seconds that one draw takes in NumPy as people write it.

    Args:
        size: elements of x and W.
        keep: keep rates; each is timed.
        seed: of W and of the masks.
        draws: draws timed for each keep rate, at least 1; one more goes before as a warm-up.

    Returns:
        The mean over all timed draws, in seconds.
    """
    rng = np.random.default_rng(seed)
    x, weights = np.ones(size), rng.standard_normal(size)
    seconds = 0.0
    for rate in keep:
        for draw in range(draws + 1):
            begin = time.perf_counter()
            mask = rng.random(size) < rate
            (weights * (x * mask)).sum()
            seconds += (time.perf_counter() - begin) if draw else 0.0
    return seconds / (draws * len(keep))


def _at_least(name: str, value: int, least: int) -> int:
    number = check_integer(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def _check_keep(value: float) -> float:
    keep = check_probability(value, "keep")
    if keep == 0:
        raise ValueError("keep must be in (0, 1], got 0.0: nothing is left to scale")
    return keep
