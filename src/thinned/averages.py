"""The averages experiment: why what dropout keeps is scaled. `thinned averages` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from thinned import Key, dropout, get_num_threads
from thinned.contract import check_integer, check_probability

Vector = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SIZE: Final = 1_000_000
MASKS: Final = 1000
KEEP: Final = (1.0, 0.7, 0.5, 0.3)

# BLAS starts threads of its own for longer dot products: they would get in the way of ours, and the last
# bits of a sum would depend on how many there are.
_ROW = 8192
# Draws and columns done in one call: enough to make up for its overhead, few enough to stay in the cache.
_DRAWS, _COLUMNS = 32, 32 * 1024


@dataclass(frozen=True)
class Statistics:
    """Of one activation over all masks.

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
    """What one keep rate did to the activation.

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
    one mask of shape (masks, size), so no two draws share a random number, and threads change nothing. The
    masks are made in blocks of draws and columns, each a shard of that one.

    Args:
        size: elements of x (all 1) and of W (standard normal), at least 1.
        masks: masks for each keep rate, at least 2.
        keep: keep rates, each in (0, 1].
        seed: of W and of the masks, in [0, 2^64).
        progress: called with the number of draws done since the last call; from several threads.

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
        _draw(x, weights, rate, key.fold(index), masks, progress or _ignore)
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
    activations = np.zeros(masks)

    def work(blocks: Iterable[slice]) -> None:
        room = np.empty(_DRAWS * min(_COLUMNS, x.size), dtype=np.float32)
        for block in blocks:
            for begin in range(0, x.size, _COLUMNS):
                columns = slice(begin, begin + _COLUMNS)
                kept = _drop(x[columns], keep, key, block, (masks, x.size), begin, room)
                activations[block] += _dot(kept, weights[columns])
            progress(block.stop - block.start)

    blocks = [slice(first, min(first + _DRAWS, masks)) for first in range(0, masks, _DRAWS)]
    threads = min(get_num_threads(), len(blocks))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (blocks[first::threads] for first in range(threads))))
    return activations


def _drop(
    x: Vector, keep: float, key: Key, draws: slice, whole: tuple[int, int], begin: int, room: Vector
) -> Vector:
    """These columns of x under the masks of these draws: shape (draws, columns), in `room`."""
    shape = (draws.stop - draws.start, x.size)
    return dropout(
        np.broadcast_to(x, shape),
        keep_prob=keep,
        key=key,
        training=True,
        mode="classic",
        global_shape=whole,
        start=(draws.start, begin),
        out=None if keep == 1 else room[: shape[0] * shape[1]].reshape(shape),  # at 1 it is x itself
    )


def _dot(kept: Vector, weights: Vector) -> Doubles:
    """Each row of `kept` times the weights: in float32 along short rows, whose sums are added in float64."""
    draws, columns = kept.shape
    whole = columns // _ROW * _ROW
    short = np.matmul(kept[:, :whole].reshape(draws, -1, 1, _ROW), weights[:whole].reshape(-1, _ROW, 1))
    rest = np.matmul(kept[:, np.newaxis, whole:], weights[whole:, np.newaxis])
    activations: Doubles = short.sum(axis=(1, 2, 3), dtype=np.float64) + rest[:, 0, 0]
    return activations


def _describe(keep: float, total: float, unscaled: Doubles) -> KeepRate:
    # The activation is linear in what is kept, so scaling it is scaling every kept value.
    return KeepRate(keep, keep * total, _statistics(unscaled), _statistics(unscaled / keep))


def _statistics(values: Doubles) -> Statistics:
    deviation = float(values.std(ddof=1))
    return Statistics(float(values.mean()), deviation, deviation / float(np.sqrt(values.size)))


def worst_deviation(result: Averages) -> float:
    """How far the farthest scaled mean lies from ΣW, in its standard errors; 0 if nothing is dropped."""
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


def _ignore(done: int) -> None:
    del done
