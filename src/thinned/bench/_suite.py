"""The suite lists all rows and measures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import thinned
from thinned.bench import (
    _attention,
    _autograd,
    _elementwise,
    _frameworks,
    _gpu,
    _monte_carlo,
    _steps,
    _thin,
)
from thinned.bench._machine import Machine, describe
from thinned.bench._row import Result, Row
from thinned.bench._timing import Settings
from thinned.torch import functional

ROWS = (
    *_elementwise.ROWS,
    *_elementwise.LAYOUTS,
    *_autograd.ROWS,
    *_steps.ROWS,
    *_thin.ROWS,
    *_monte_carlo.ROWS,
    *_frameworks.AVERAGES,
    *_frameworks.ROWS,
    *_attention.ROWS,
    _steps.FUSED,
    *_gpu.ROWS,
)

# Only tries out that every row runs: too small and too short to be compared with a target.
QUICK = Settings(repeats=2, batch=0.0, shrink=256)

# Below the largest block, 32 MiB, that glibc will serve from its heap.
_WARM_UP_BYTES = 31 << 20


@dataclass(frozen=True)
class Measured:
    """A whole run."""

    machine: Machine
    settings: Settings
    results: dict[str, Result]


def select(match: str = "") -> tuple[Row, ...]:
    """The rows whose name contains this, whatever the case.

    Args:
        match: part of a name; an empty one selects all.

    Returns:
        At least one row.

    Raises:
        ValueError: `no row is named like …`.

    Example:
        >>> [row.name for row in select("BFLOAT16, 16")]
        ['bfloat16, 16 Mi, in place']
    """
    found = tuple(row for row in ROWS if match.lower() in row.name.lower())
    if not found:
        names = "; ".join(row.name for row in ROWS)
        raise ValueError(f"no row is named like {match!r}: the rows are {names}")
    return found


def run(
    match: str = "",
    settings: Settings | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Measured:
    """Measure the rows on as many threads as `thinned.get_num_threads()` says, torch's operators included.

    Args:
        match: part of the names of the rows wanted; an empty one selects all.
        settings: rounds and sizes; those of the targets if not given.
        progress: called with the name of the row begun and the number of rows done since the last call.

    Returns:
        The machine, the settings, and the results by name.

    Raises:
        ValueError: `no row is named like …`.
    """
    rows, settings = select(match), settings or Settings()
    report = progress or (lambda name, done: None)
    machine, before, results = describe(), torch.get_num_threads(), {}
    torch.set_num_threads(thinned.get_num_threads())
    try:
        with torch.random.fork_rng(devices=[]):
            _settle()
            for number, row in enumerate(rows):
                report(row.name, int(number > 0))
                torch.manual_seed(number)
                results[row.name] = row.measure(settings)
            report(rows[-1].name, 1)
    finally:
        torch.set_num_threads(before)
    return Measured(machine, settings, results)


def _settle() -> None:
    """Bring the process to a state that no row changes: a row gives the same alone and among others."""
    # The torch front end lends the kernel torch's threads at its first call.
    functional.dropout(torch.ones(2), 0.5, training=True)
    # glibc returns freed memory at once until a block as large has been freed; page faults are then timed.
    torch.empty(_WARM_UP_BYTES, dtype=torch.uint8)
