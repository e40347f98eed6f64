"""The model's rows are written here as a table, a page and a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thinned.bench._gpu_model._chips import CHIPS
from thinned.bench._gpu_model._model import Row

# Pipes, as the table has them together.
_COLUMNS = (("wide", "multiply"), ("logic",), ("float",), ("other", "memory", "convert", "double"))


def table(found: Sequence[Row]) -> str:
    """Writes the table in Markdown."""
    lines = [
        "| kernel | dtype | elements | GPU | registers | spilled | warps | occupancy | load, store (bytes) "
        "| instructions | multiply, logic, float, other | limit | time / copy | nothing overlaps |",
        "|" + "---|" * 14,
    ]
    for r in found:
        parts = ", ".join(f"{sum(r.pipes.get(n, 0.0) for n in names):.1f}" for names in _COLUMNS)
        lines.append(
            f"| {r.kernel} | {r.dtype} | {_size(r.elements)} | {r.arch} | {r.registers} | {r.spilled} "
            f"| {r.warps} | {r.occupancy:.0%} | {r.load}, {r.store} | {r.instructions:.1f} | {parts} "
            f"| {r.limit} | {r.bound:.2f} | {r.apart:.2f} |"
        )
    return "\n".join(lines)


def _size(elements: int) -> str:
    return f"{elements >> 20} Mi"


def page(found: Sequence[Row]) -> str:
    """The table, and what it is of."""
    import triton  # type: ignore[import-untyped]

    chips = "\n".join(
        f"| {arch} | {c.name} | {c.units} | {c.clock / 1e9:.2f} GHz | {c.bandwidth / 1e12:.2f} TB/s "
        f"| {c.latency} clocks |"
        for arch, c in CHIPS.items()
    )
    return f"""# The kernels' static model

Written by `thinned bench --gpu-model --out benchmarks/gpu/model.md`, with Triton {triton.__version__}.
**Nothing here was measured.** Instructions are those of a thread along the usual way (ties are sought, none
is found), for one element. "Time / copy" has all overlap: the greatest of memory and the pipes, over the
bytes of a copy at the published bandwidth. "Nothing overlaps" is the other end: all programs that fit wait
for memory, then compute, then the next. A launch too small to fill the GPU is bound by that, as a copy is.

| | chip | multiprocessors | clock | memory | latency assumed |
|---|---|---|---|---|---|
{chips}

Sources of the throughputs are in `src/thinned/bench/_gpu_model/_chips.py`.

{table(found)}"""


def write(found: Sequence[Row], path: Path) -> None:
    """Write the rows to a .json file, or the page to any other."""
    text = json.dumps([asdict(row) for row in found], indent=1) if path.suffix == ".json" else page(found)
    path.write_text(text + "\n", encoding="utf-8")
