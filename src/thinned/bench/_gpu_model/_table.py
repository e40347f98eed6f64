"""The model's rows are written here as a table, a page and a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thinned.bench._gpu_model._chips import CHIPS
from thinned.bench._gpu_model._row import Row
from thinned.bench._gpu_model._scores import ALL

# Pipes, as the table has them together.
_COLUMNS = (("wide", "multiply"), ("logic",), ("float",), ("other", "memory", "convert", "double", "tensor"))


def table(found: Sequence[Row]) -> str:
    """Writes in Markdown: launches over copies, and attention over itself without a mask."""
    both = _launches([r for r in found if r.without is None]), _scores([r for r in found if r.without])
    return "\n\n".join(filter(None, both))


def _launches(found: Sequence[Row]) -> str:
    lines = [
        "| kernel | dtype | elements | GPU | registers | spilled | warps | occupancy | load, store (bytes) "
        "| instructions | multiply, logic, float, other | limit | time / copy | nothing overlaps |",
        "|" + "---|" * 14,
    ]
    for r in found:
        lines.append(
            f"| {r.kernel} | {r.dtype} | {_size(r.elements)} | {r.arch} | {r.registers} | {r.spilled} "
            f"| {r.warps} | {r.occupancy:.0%} | {r.load}, {r.store} | {r.instructions:.1f} | {_parts(r)} "
            f"| {r.limit} | {r.bound:.2f} | {r.apart:.2f} |"
        )
    return "\n".join(lines) if found else ""


def _scores(found: Sequence[Row]) -> str:
    lines = [
        "| kernel, width of a head | dtype | GPU | registers | spilled | warps | occupancy "
        "| instructions for a score | without a mask | multiply, logic, float, other | limit "
        "| time / without a mask | nothing overlaps |",
        "|" + "---|" * 13,
    ]
    for r in found:
        lines.append(
            f"| {r.kernel} | {r.dtype} | {r.arch} | {r.registers} | {r.spilled} | {r.warps} "
            f"| {r.occupancy:.0%} | {r.instructions:.1f} | {r.without:.1f} | {_parts(r)} | {r.limit} "
            f"| {r.bound:.2f} | {r.apart:.2f} |"
        )
    return "\n".join(lines) if found else ""


def _parts(row: Row) -> str:
    return ", ".join(f"{sum(row.pipes.get(n, 0.0) for n in names):.1f}" for names in _COLUMNS)


def _size(elements: int) -> str:
    return f"{elements >> 20} Mi"


def merged(found: Sequence[Row], path: Path) -> list[Row]:
    """The rows and those of an earlier .json file that are of other cases, in the order of the table.

    What is no case any more is left out.
    """
    texts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows = {_place(row): row for row in (*(Row(**text) for text in texts), *found)}
    return [row for place, row in sorted(rows.items()) if place[1] >= 0]


def _place(row: Row) -> tuple[int, int, int]:
    """The GPU's, and the case's; below 0 where there is no such case."""
    labels = [case.label() for case in ALL]
    label = {"kernel": row.kernel, "dtype": row.dtype, "elements": row.elements}
    at = labels.index(label) if label in labels else -1
    return list(CHIPS).index(row.arch), at, 0 if at >= 0 else hash(json.dumps(label))


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
The seeds and the growing of DropBlock move next to nothing; their time is over a copy of the input, and adds
to that of `drop_block2d`, which applies what they make. Attention moves little for what it computes: its time
is over the same kernel's at p = 0, which draws no mask. There "nothing overlaps" is instructions, then
products of matrices.

| | chip | multiprocessors | clock | memory | latency assumed |
|---|---|---|---|---|---|
{chips}

Sources of the throughputs are in `src/thinned/bench/_gpu_model/_chips.py`.

{table(found)}"""


def write(found: Sequence[Row], path: Path) -> None:
    """Write the rows to a .json file, or the page to any other."""
    text = json.dumps([asdict(row) for row in found], indent=1) if path.suffix == ".json" else page(found)
    path.write_text(text + "\n", encoding="utf-8")
