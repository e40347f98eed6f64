"""A row is one measurement of the suite, with its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from thinned.bench._timing import Race, Settings
from thinned.bench._verdict import Figure


@dataclass(frozen=True)
class Result:
    """Holds what a row measured.

    Args:
        figures: with their bounds.
        seconds: each competitor's median, for orientation.
        skipped: why nothing was measured, where nothing was.
    """

    figures: tuple[Figure, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Row:
    """One row: its name, and how it is measured."""

    name: str
    measure: Callable[[Settings], Result]


def result(found: Race, *figures: Figure) -> Result:
    """The result of one race."""
    return Result(figures, found.medians())
