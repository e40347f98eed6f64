"""The table of what bounds each kernel on GPUs that need not be here: `python benchmarks/gpu/model.py`.

Compiles each case by Triton, reads the assembly, and divides what its usual way does by what is published of
the chip. It knows no cache, no clock that is lowered, and no program that waits for another.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from absent import Launch, assembly, compiling, resources
from cases import CASES, Case
from chips import CHIPS, Chip
from code_of import by_pipe, usual, width

# A product of 64 bits counts as two.
_COST = {"wide": ("multiply", 2.0)}


@dataclass(frozen=True)
class Row:
    """What the model says of a case on a chip; numbers of instructions are a thread's for one element.

    `bound` is time over that of a copy's bytes where all overlaps, `apart` where a resident set of programs
    first waits for memory, then computes; the truth lies between the two.
    """

    kernel: str
    dtype: str
    elements: int
    arch: str
    registers: int
    spilled: int
    warps: int
    occupancy: float
    load: int
    store: int
    instructions: float
    pipes: dict[str, float]
    limit: str
    bound: float
    apart: float


def predict(case: Case, launch: Launch, arch: str) -> Row:
    """A case's row, of its launch compiled for a chip."""
    chip = CHIPS[arch]
    kernel = launch.kernel
    registers, spilled = resources(kernel)
    names = usual(assembly(kernel), chip.backend)
    pipes = by_pipe(names, chip.backend)
    warps = kernel.metadata.num_warps
    each = case.elements / launch.programs / (warps * chip.lanes)  # elements of a thread
    # Clocks of a multiprocessor for one element, by what takes them.
    clocks = {name: n / each for name, n in _clocks(pipes, chip).items()}
    moved = case.passes * case.dtype.itemsize / chip.bytes_a_clock()
    limit, most = max(clocks.items(), key=lambda c: c[1])
    resident = _resident(chip, registers, warps, kernel.metadata.shared)
    in_one = resident * warps * chip.lanes * each
    rounds = math.ceil(launch.programs / chip.units / resident) * chip.units * resident / launch.programs
    apart = rounds * (chip.latency / in_one + most)
    return Row(
        case.name, str(case.dtype).removeprefix("torch."), case.elements, arch, registers, spilled, warps,
        resident * warps * chip.lanes / chip.threads, width(names, "load"), width(names, "store"),
        len(names) / each, {name: n / each for name, n in sorted(pipes.items())},
        "memory" if moved >= most else limit, max(1.0, most / moved), max(1.0, apart / moved),
    )  # fmt: skip


def _clocks(pipes: Counter[str], chip: Chip) -> dict[str, float]:
    used: Counter[str] = Counter()
    for name, count in pipes.items():
        pipe, cost = _COST.get(name, (name, 1.0)) if chip.backend == "cuda" else (
            "multiply" if name == "wide" else name, 1.0)  # fmt: skip
        used[pipe] += count * cost
    found = {name: n / chip.pipes[name] for name, n in used.items() if name in chip.pipes}
    return {"issue": sum(pipes.values()) / chip.issue, **found}


def _resident(chip: Chip, registers: int, warps: int, shared: int) -> int:
    """Programs that a multiprocessor holds: registers are given to a warp in steps of 8 for each thread."""
    for_one = math.ceil(registers / 8) * 8 * chip.lanes * warps
    by_shared = 64 * 2**10 if chip.backend == "hip" else 160 * 2**10
    return max(
        1,
        min(
            chip.registers // for_one,
            chip.threads // (warps * chip.lanes),
            chip.programs if chip.backend == "cuda" else 10**9,
            by_shared // max(shared, 1),
        ),
    )


def rows(words: list[str], archs: list[str]) -> list[Row]:
    """All cases whose name or dtype has the words, on these chips."""
    found = []
    for arch in archs:
        chip = CHIPS[arch]
        for case in CASES:
            if all(word in f"{case.name} {case.dtype} {case.elements >> 20}Mi" for word in words):
                with compiling(chip.arch, chip.backend) as made:
                    case.on("meta")()
                found.append(predict(case, made[0], arch))
    return found


def table(found: list[Row]) -> str:
    """In Markdown."""
    lines = [
        "| kernel | dtype | elements | GPU | registers | spilled | warps | occupancy | load, store (bytes) "
        "| instructions | multiply, logic, float, other | limit | time / copy | nothing overlaps |",
        "|" + "---|" * 14,
    ]
    for r in found:
        of = lambda *names: sum(r.pipes.get(name, 0.0) for name in names)  # noqa: B023, E731
        others = of("other", "memory", "convert", "double")
        parts = f"{of('wide', 'multiply'):.1f}, {of('logic'):.1f}, {of('float'):.1f}, {others:.1f}"
        lines.append(
            f"| {r.kernel} | {r.dtype} | {_size(r.elements)} | {r.arch} | {r.registers} | {r.spilled} "
            f"| {r.warps} | {r.occupancy:.0%} | {r.load}, {r.store} | {r.instructions:.1f} | {parts} "
            f"| {r.limit} | {r.bound:.2f} | {r.apart:.2f} |"
        )
    return "\n".join(lines)


def _size(elements: int) -> str:
    return f"{elements >> 20} Mi"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases that have these in their name or dtype")
    parser.add_argument("--arch", action="append", choices=CHIPS, help="one of the GPUs; all if not given")
    parser.add_argument("--out", action="append", default=[], help="a .md or .json file to write")
    parser.add_argument("--print-json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(arguments)
    found = rows(options.words, options.arch or list(CHIPS))
    for name in options.out:
        text = json.dumps([asdict(r) for r in found], indent=1) if name.endswith(".json") else page(found)
        Path(name).write_text(text + "\n")
    if options.print_json:
        print(json.dumps([asdict(r) for r in found]))
    elif not options.out:
        print(table(found))


def page(found: list[Row]) -> str:
    """The table, and what it is of."""
    import triton

    chips = "\n".join(
        f"| {arch} | {c.name} | {c.units} | {c.clock / 1e9:.2f} GHz | {c.bandwidth / 1e12:.2f} TB/s "
        f"| {c.latency} clocks |"
        for arch, c in CHIPS.items()
    )
    return f"""# The kernels' static model

Written by `python benchmarks/gpu/model.py --out benchmarks/gpu/model.md`, with Triton {triton.__version__}.
**Nothing here was measured.** Instructions are those of a thread along the usual way (ties are sought, none
is found), for one element. "Time / copy" has all overlap: the greatest of memory and the pipes, over the
bytes of a copy at the published bandwidth. "Nothing overlaps" is the other end: all programs that fit wait
for memory, then compute, then the next. A launch too small to fill the GPU is bound by that, as a copy is.

| | chip | multiprocessors | clock | memory | latency assumed |
|---|---|---|---|---|---|
{chips}

Sources of the throughputs are in `chips.py`.

{table(found)}"""


if __name__ == "__main__":
    main()
