"""Competitors are timed here in turns, in short batches, and compared within each round.

Whatever slows the machine for longer than a round (another process, its clock, its heat) slows all
competitors of that round alike and leaves their ratio; the median of the ratios drops the rounds that were
hit in between.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from thinned.bench._verdict import Bound, Figure, spread


@dataclass(frozen=True)
class Settings:
    """Says how long and how large.

    Args:
        repeats: rounds, at least 1; each competitor runs one batch in each.
        batch: seconds that one batch should take at least.
        shrink: what sizes are divided by; 1 measures the targets, anything else only tries the suite out.
    """

    repeats: int = 31
    batch: float = 0.02
    shrink: int = 1

    def size(self, full: int) -> int:
        """The size to use in place of this one."""
        return max(full // self.shrink, 1)


@dataclass(frozen=True)
class Race:
    """Seconds a call, for each competitor one entry a round."""

    seconds: dict[str, tuple[float, ...]]

    def figure(self, first: str, second: str, bound: Bound | None = None) -> Figure:
        """Tells how many times as long the first one takes, paired by round."""
        pairs = zip(self.seconds[first], self.seconds[second], strict=True)
        return spread([a / b for a, b in pairs], f"{first} / {second}", bound)

    def medians(self) -> dict[str, float]:
        """Each competitor's median, in seconds."""
        return {name: float(np.median(values)) for name, values in self.seconds.items()}


def race(competitors: Mapping[str, Callable[[], object]], settings: Settings) -> Race:
    """Time these calls against one another.

    Args:
        competitors: calls by name; what they return is dropped at once.
        settings: rounds and length of a batch.

    Returns:
        Seconds a call; `Race.figure` makes ratios of them.

    Example:
        >>> found = race({"one": lambda: sum(range(9)), "other": lambda: sum(range(9))}, Settings(3, 0.0))
        >>> found.figure("one", "other").what
        'one / other'
    """
    with _no_collection():
        batches = {name: _batch(call, settings.batch) for name, call in competitors.items()}
        return alternate(batches, settings.repeats)


def alternate(timers: Mapping[str, Callable[[], float]], repeats: int) -> Race:
    """Let timers take turns, every other round in reverse order, so that none always follows the same one.

    Args:
        timers: each returns the seconds a call took.
        repeats: rounds, at least 1.

    Returns:
        What they returned.
    """
    found: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(repeats):
        for name in list(timers)[:: -1 if turn % 2 else 1]:
            found[name].append(timers[name]())
    return Race({name: tuple(values) for name, values in found.items()})


def _batch(call: Callable[[], object], least: float) -> Callable[[], float]:
    """A timer of as many calls as take `least` seconds. Finding out how many warms the call up."""
    calls, warm_up = 1, call
    warm_up()
    while (seconds := _time(call, calls)) * calls < least:
        # Grown with caution: the first batches are the slow ones.
        calls = max(calls + 1, min(2 * calls, int(least / seconds) + 1))
    return lambda: _time(call, calls)


def _time(call: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls


@contextmanager
def _no_collection() -> Iterator[None]:
    # With a framework loaded a full collection takes tens of milliseconds, in any competitor's turn.
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
