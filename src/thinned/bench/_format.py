"""Figures in words: what is asked, what was found, what follows."""

from __future__ import annotations

from typing import Final

from thinned.bench._suite import Measured
from thinned.bench._verdict import Figure

# One busy core of two turned a parallel region of 10 µs into one of 10 ms.
_BUSY: Final = 0.5


def number(figure: Figure, value: float) -> str:
    """A value of the figure, as people write it."""
    if figure.unit != "×":
        return f"{value:,.0f}"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def target(figure: Figure) -> str:
    """Gives what is asked: for example "thinned / clone ≤ 0.95"."""
    asked = "" if figure.bound is None else f" {figure.bound.sense} {figure.bound.limit:g}"
    return figure.what + asked


def measured(figure: Figure) -> str:
    """Gives what was found: for example "0.86 × (0.84–0.88)"."""
    middle = f"{number(figure, figure.median)} {figure.unit}"
    if figure.low == figure.high:
        return middle
    return f"{middle} ({number(figure, figure.low)}–{number(figure, figure.high)})"


def verdict(figure: Figure) -> str:
    """Tells whether it is met: "met", "missed", or nothing where nothing is asked."""
    return {True: "met", False: "missed", None: ""}[figure.met]


def reading(run: Measured) -> str:
    """Tells how many targets are met."""
    verdicts = [f.met for r in run.results.values() for f in r.figures if f.bound]
    skipped = sum(bool(result.skipped) for result in run.results.values())
    rest = f"; {skipped} row{'s' * (skipped != 1)} not measured" if skipped else ""
    return f"{sum(map(bool, verdicts))} of {len(verdicts)} targets met{rest}."


def warnings(run: Measured) -> list[str]:
    """Gives what keeps the figures from counting, or from being trusted."""
    found = []
    if run.settings.shrink != 1:
        found.append("A quick run: its sizes are not those of the targets, and no figure in it counts.")
    if run.machine.load > _BUSY:
        load = f"load average {run.machine.load:.2f}"
        found.append(f"The machine was busy when the run began ({load}): measure again on a quiet one.")
    return found


def duration(seconds: float) -> str:
    """With the unit that suits it.

    Example:
        >>> duration(0.0123)
        '12.3 ms'
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
