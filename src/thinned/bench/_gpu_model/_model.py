"""The model computes what bounds a kernel on a GPU.

A case is compiled by Triton, its assembly is read, and what its usual way does is divided by what is
published of the chip. The model knows no cache, no clock that is lowered, and no program that waits for
another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thinned.bench._gpu_model._absent import Launch, assembly, compiling, resources
from thinned.bench._gpu_model._cases import CASES, Case
from thinned.bench._gpu_model._chips import CHIPS, Chip
from thinned.bench._gpu_model._code import by_pipe, usual, width

# A product of 64 bits counts as two.
_COST = {"wide": ("multiply", 2.0)}


@dataclass(frozen=True)
class Row:
    """Holds what the model says of a case on a chip; numbers of instructions are a thread's for one element.

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
    each = (
        case.elements / launch.programs / (warps * chip.lanes) / case.spans
    )  # elements of a thread at a time
    # Clocks of a multiprocessor for one element, by what takes them.
    clocks = {name: n / each for name, n in _clocks(pipes, chip).items()}
    moved = case.passes * case.dtype.itemsize / chip.bytes_a_clock()
    limit, most = max(clocks.items(), key=lambda c: c[1])
    resident = _resident(chip, registers, warps, kernel.metadata.shared)
    in_one = resident * warps * chip.lanes * each * case.spans
    rounds = math.ceil(launch.programs / chip.units / resident) * chip.units * resident / launch.programs
    apart = rounds * (case.spans * chip.latency / in_one + most)
    return Row(
        case.name, str(case.dtype).removeprefix("torch."), case.elements, arch, registers, spilled, warps,
        resident * warps * chip.lanes / chip.threads, width(names, "load"), width(names, "store"),
        len(names) / each, {name: n / each for name, n in sorted(pipes.items())},
        "memory" if moved >= most else limit, max(1.0, most / moved), max(1.0, apart / moved),
    )  # fmt: skip


def _clocks(pipes: Counter[str], chip: Chip) -> dict[str, float]:
    used: dict[str, float] = {}
    for name, count in pipes.items():
        pipe, cost = _COST.get(name, (name, 1.0)) if chip.backend == "cuda" else (
            "multiply" if name == "wide" else name, 1.0)  # fmt: skip
        used[pipe] = used.get(pipe, 0.0) + count * cost
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


def select(match: str) -> list[Case]:
    """Return the cases whose name, dtype and size, such as "dropout bfloat16 256Mi", contain a text.

    Raises:
        ValueError: `no case of the GPU model has …`.
    """
    found = [case for case in CASES if match in _text(case)]
    if not found:
        names = sorted({case.name for case in CASES})
        raise ValueError(f"no case of the GPU model has {match!r}; there are {', '.join(names)}")
    return found


def rows(
    cases: Sequence[Case], archs: Sequence[str], tell: Callable[[str, int], None] = lambda name, done: None
) -> list[Row]:
    """Compile cases for chips, by their names in `CHIPS`.

    Args:
        cases: of `CASES`.
        archs: "sm_90" and the like.
        tell: called with a case's name before it is compiled, and with how many are done since it was.

    Raises:
        ValueError: `arch must be of …`.
    """
    for arch in archs:
        if arch not in CHIPS:
            raise ValueError(f"arch must be of {', '.join(CHIPS)}, got {arch!r}")
    found: list[Row] = []
    for arch in archs:
        chip = CHIPS[arch]
        for case in cases:
            tell(f"{case.name}, {arch}", int(bool(found)))
            with compiling(chip.arch, chip.backend) as made:
                case.on("meta")()
            found.append(predict(case, made[0], arch))
    tell("done", int(bool(found)))
    return found


def _text(case: Case) -> str:
    label = case.label()
    return f"{label['kernel']} {label['dtype']} {case.elements >> 20}Mi"
