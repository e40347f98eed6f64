"""The matrix is written here for programs, and as Markdown for people."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from thinned import __version__
from thinned._installed import versions
from thinned.conformance._case import DEVICES, EXPECTED, KEY, MODES, SHAPE, SHARDS, Cell, P
from thinned.contract import CONTRACT_VERSION

_SHOWN = 12  # digits of a digest

_HEAD: Final = """\
# One mask everywhere

The mask of shape {rows} × {columns}, p {p}, seed {seed}, stream {stream}, made by every backend on every
device, eager and compiled, whole and in shards of its rows. A cell has the first {shown} digits of the
SHA-256 of the mask as bytes, 1 for kept, in C order. By the contract it is

`{expected}`

{verdict}
"""

_TAIL: Final = """
Compiled is `torch.compile`, `jax.jit`, and XLA under `tf.function`. JAX divides an array over a mesh; a
DTensor's ranks are run one after another in one process, as none of them asks another (`tests/distributed`
has ranks that run at once); the others make part after part with `global_shape` and `start`.

{notes}

Made by `thinned conformance --out docs/matrix.md` on {date}: {machine}; {versions}.
"""


def as_dict(cells: Sequence[Cell]) -> dict[str, Any]:
    """Everything, ready for JSON.

    Args:
        cells: what `matrix` returned.

    Returns:
        `expected`, the digest that all should have; `equal`, whether all that were run have it; `cells`.

    Example:
        >>> as_dict([Cell("NumPy", "cpu", "eager", 1, EXPECTED)])["equal"]
        True
    """
    return {
        "contract": CONTRACT_VERSION,
        "expected": EXPECTED,
        "equal": _others(cells) == [],
        "cells": [asdict(cell) for cell in cells],
    }


def as_markdown(cells: Sequence[Cell]) -> str:
    """A page with the matrix, why cells are empty, and what it was made with.

    Args:
        cells: what `matrix` returned.

    Returns:
        Markdown.

    Example:
        >>> print(as_markdown([Cell("NumPy", "cpu", "eager", 1, EXPECTED)]).splitlines()[0])
        # One mask everywhere
    """
    run, others = [cell for cell in cells if cell.digest], _others(cells)
    verdict = f"All {len(run)} cells that were run have it."
    if others:
        verdict = f"**{len(others)} of {len(run)} cells that were run have another.**"
    head = _HEAD.format(
        rows=SHAPE[0],
        columns=SHAPE[1],
        p=P,
        seed=KEY.seed,
        stream=KEY.stream,
        shown=_SHOWN,
        expected=EXPECTED,
        verdict=verdict,
    )
    reasons = list(dict.fromkeys(cell.reason for cell in cells if cell.reason))
    tail = _TAIL.format(
        notes="\n".join(f"{number}. Not run: {reason}." for number, reason in enumerate(reasons, 1)),
        date=datetime.now(UTC).date(),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions=", ".join(f"{name} {found}" for name, found in _packages()),
    )
    return f"{head}\n{_table(cells, reasons)}\n{tail}"


def _others(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.digest not in (None, EXPECTED)]


def _packages() -> list[tuple[str, str]]:
    found = versions(("numpy", "torch", "triton", "jax", "tensorflow", "keras"))
    return [("thinned", __version__), *((name, text) for name, text in found.items() if text)]


def _table(cells: Sequence[Cell], reasons: list[str]) -> str:
    said = {(cell.backend, cell.device, cell.mode, cell.shards): cell for cell in cells}
    shards = [f"{n} shard{'s' if n > 1 else ''}" for n in SHARDS]
    rows = [["backend", "device", "", *shards], ["---"] * (3 + len(shards))]
    for backend in dict.fromkeys(cell.backend for cell in cells):
        for device in DEVICES:
            for mode in MODES:
                row = [said.get((backend, device, mode, n)) for n in SHARDS]
                if any(row):
                    rows.append([backend, device, mode, *(_entry(cell, reasons) for cell in row)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _entry(cell: Cell | None, reasons: list[str]) -> str:
    if cell is None:
        return ""
    if cell.digest is None:
        return f"not run ({reasons.index(cell.reason or '') + 1})"
    return f"`{cell.digest[:_SHOWN]}`" + ("" if cell.digest == EXPECTED else " **differs**")
