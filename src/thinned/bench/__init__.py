"""The benchmark suite (`thinned bench`) measures every target of the project as ratios within one run."""

# Each file of rows (`_elementwise`, `_steps`, …) measures one subject; `_timing` compares competitors,
# `_verdict` judges a figure by its target, `_suite` runs all rows and `_report` writes them.

from thinned.bench._machine import Machine
from thinned.bench._report import (
    as_dict,
    as_markdown,
    check_suffix,
    machine_lines,
    measured,
    reading,
    target,
    verdict,
    warnings,
    write,
)
from thinned.bench._row import Result, Row
from thinned.bench._suite import QUICK, ROWS, Measured, run, select
from thinned.bench._timing import Race, Settings, alternate, race
from thinned.bench._verdict import Bound, Figure, at_least, at_most, spread

__all__ = [
    "QUICK",
    "ROWS",
    "Bound",
    "Figure",
    "Machine",
    "Measured",
    "Race",
    "Result",
    "Row",
    "Settings",
    "alternate",
    "as_dict",
    "as_markdown",
    "at_least",
    "at_most",
    "check_suffix",
    "machine_lines",
    "measured",
    "race",
    "reading",
    "run",
    "select",
    "spread",
    "target",
    "verdict",
    "warnings",
    "write",
]


def __dir__() -> list[str]:
    return sorted(__all__)
