"""The averages experiment: why what dropout keeps is scaled. `thinned averages` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from thinned import Key, dropout, get_num_threads
from thinned.contract import check_integer, check_probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SIZE: Final = 1_000_000
MASKS: Final = 1000
KEEP: Final = (1.0, 0.7, 0.5, 0.3)

# BLAS starts threads of its own for longer dot products: they would get in the way of ours, and the last
# bits of a sum would depend on how many there are.
_ROW = 8192
_TICK = 20  # draws between two reports of progress: each costs as much as a tenth of a draw


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

    Every draw is a real mask over the real x, and a real dot product. Draw d of a keep rate takes row d of one
    mask of shape (masks, size), so no two draws share a random number, and threads change nothing.

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
        _draw(x, weights, rate, key.fold(index), masks, progress or _ignore) for index, rate in enumerate(rates)
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
    activations = np.empty(masks)

    def work(draws: Iterable[int]) -> None:
        room = np.empty((1, x.size), dtype=np.float32)
        done = 0
        for done, draw in enumerate(draws, 1):
            kept = dropout(
                x[np.newaxis],
                keep_prob=keep,
                key=key,
                training=True,
                mode="classic",
                global_shape=(masks, x.size),
                start=(draw, 0),
                out=None if keep == 1 else room,  # nothing is dropped: x itself
            )
            activations[draw] = _dot(weights, kept[0])
            if done % _TICK == 0:
                progress(_TICK)
        progress(done % _TICK)

    threads = min(get_num_threads(), masks)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (range(first, masks, threads) for first in range(threads))))
    return activations


def _dot(a: Vector, b: Vector) -> float:
    """A · b, in float32 along short rows whose sums are added in float64."""
    whole = a.size // _ROW * _ROW
    rows = np.matmul(a[:whole].reshape(-1, 1, _ROW), b[:whole].reshape(-1, _ROW, 1))
    return float(rows.sum(dtype=np.float64)) + float(np.dot(a[whole:], b[whole:]))


def _describe(keep: float, total: float, unscaled: Doubles) -> KeepRate:
    # The activation is linear in what is kept, so scaling it is scaling every kept value.
    return KeepRate(keep, keep * total, _statistics(unscaled), _statistics(unscaled / keep))


def _statistics(values: Doubles) -> Statistics:
    deviation = float(values.std(ddof=1))
    return Statistics(float(values.mean()), deviation, deviation / float(np.sqrt(values.size)))


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


def plot(result: Averages, axes: Axes) -> None:
    """Draw the mean activation against the keep rate, with the standard deviation over masks as bars.

    Args:
        result: of `run`.
        axes: matplotlib axes to draw into.
    """
    keep = [rate.keep for rate in result.rates]
    ends = np.array([0.0, 1.0])
    axes.axhline(result.total, color="#9a9a9a", linewidth=1, label="ΣW, no dropout")
    axes.plot(ends, ends * result.total, color="#9a9a9a", linewidth=1, linestyle="--", label="keep · ΣW")
    for name, colour, shift in (("unscaled", "#b5482a", -0.006), ("scaled", "#2a6f97", 0.006)):
        found: list[Statistics] = [getattr(rate, name) for rate in result.rates]
        style: dict[str, Any] = {"fmt": "o", "markersize": 6, "capsize": 3, "linewidth": 1.2, "color": colour}
        label = "unscaled" if name == "unscaled" else "scaled by 1/keep"
        axes.errorbar(
            [k + shift for k in keep], [s.mean for s in found], [s.deviation for s in found], label=label, **style
        )
    axes.set(xlabel="keep rate", ylabel="activation W · x", xlim=(0, 1.06))
    axes.legend(loc="best", frameon=False)


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
