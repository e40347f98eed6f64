"""A run is written here as JSON for programs, and as Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from thinned.bench._machine import Machine
from thinned.bench._row import Result
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
    """Writes a time with the unit that suits it.

    Example:
        >>> duration(0.0123)
        '12.3 ms'
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


SUFFIXES: Final = (".json", ".md")

LEGEND: Final = """\
Every ratio is of two times taken in this run, in short batches by turns: the median over the rounds, with
the quartiles in brackets. The verdict is on the median. "thinned" is called with a key; "unkeyed" draws its
key from torch's generator, as F.dropout draws; "kernel alone" is the call beneath the front end. A line
without a verdict is for orientation."""


def as_dict(run: Measured) -> dict[str, Any]:
    """Everything, ready for JSON.

    Args:
        run: what `thinned.bench.run` returned.

    Returns:
        `machine`, `settings`, `quick`, and `rows`: for each its name, machine, figures with
        target and verdict, and the competitors' median seconds.
    """
    return {
        "machine": asdict(run.machine),
        "settings": asdict(run.settings),
        "quick": run.settings.shrink != 1,
        "rows": [_row(name, result, run.machine) for name, result in run.results.items()],
    }


def _row(name: str, result: Result, machine: Machine) -> dict[str, Any]:
    return {
        "name": name,
        "machine": machine.name,
        "skipped": result.skipped or None,
        "figures": [_figure(figure) for figure in result.figures],
        "seconds": result.seconds,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "what": figure.what,
        "unit": figure.unit,
        "target": f"{figure.bound.sense} {figure.bound.limit:g}" if figure.bound else None,
        "measured": figure.median,
        "quartiles": [figure.low, figure.high],
        "met": figure.met,
    }


def as_markdown(run: Measured) -> str:
    """The machine, a table of targets and measurements, and the times behind them.

    Args:
        run: what `thinned.bench.run` returned.

    Returns:
        A whole document.
    """
    parts = [
        "# What `thinned bench` measured",
        "\n".join(f"- {name}: {value}" for name, value in machine_lines(run)),
        *(f"**{warning}**" for warning in warnings(run)),
        f"**{reading(run)}**",
        LEGEND,
        "\n".join(_targets(run)),
        "## Median times of one call",
        "Not stable from run to run, and no target: they show what the ratios are made of.",
        "\n".join(_times(run)),
    ]
    return "\n\n".join(parts) + "\n"


def machine_lines(run: Measured) -> Iterator[tuple[str, str]]:
    """Gives what there is to say of the machine, line by line."""
    machine = run.machine
    cores = f"{machine.cores} cores" if machine.cores else "number of cores unknown"
    yield "processor", f"{machine.processor} ({machine.architecture}), {cores}"
    if machine.caches:
        yield "caches", ", ".join(machine.caches)
    yield "memory", f"{machine.memory / 2**30:.1f} GiB"
    yield "GPU", machine.gpu or "none: nothing here has been run on one"
    yield "system", machine.system
    yield "code path", f"{machine.path} (of {', '.join(machine.paths)})"
    yield "threads", f"{machine.threads}, for each competitor"
    yield "versions", ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    yield "begun", f"{machine.date}, load average {machine.load:.2f}"
    yield "rounds", str(run.settings.repeats)


def _targets(run: Measured) -> Iterator[str]:
    yield "| row | target | measured | verdict |"
    yield "|---|---|---|---|"
    for name, result in run.results.items():
        if result.skipped:
            yield f"| {name} | | not measured: {result.skipped} | |"
        for index, figure in enumerate(result.figures):
            first = "" if index else name
            yield f"| {first} | {target(figure)} | {measured(figure)} | {verdict(figure)} |"


def _times(run: Measured) -> Iterator[str]:
    yield "| row | competitors |"
    yield "|---|---|"
    for name, result in run.results.items():
        if result.seconds:
            times = ", ".join(f"{who} {duration(seconds)}" for who, seconds in result.seconds.items())
            yield f"| {name} | {times} |"


def write(run: Measured, path: Path) -> None:
    """Write a run to a file.

    Args:
        run: what `thinned.bench.run` returned.
        path: its suffix says what is written: `.json` or `.md`.

    Raises:
        ValueError: `a result is written as .json or .md, got …`.
        OSError: where the file cannot be written.
    """
    check_suffix(path)
    text = as_markdown(run) if path.suffix == ".md" else _as_json(run)
    path.write_text(text, encoding="utf-8")


def _as_json(run: Measured) -> str:
    return json.dumps(as_dict(run), indent=2, ensure_ascii=False) + "\n"


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix names no format, before a run of minutes.

    Raises:
        ValueError: `a result is written as .json or .md, got …`.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a result is written as {' or '.join(SUFFIXES)}, got {str(path)!r}")
