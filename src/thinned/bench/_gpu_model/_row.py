"""A row of the model, and what a chip takes for instructions and has room for."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from thinned.bench._gpu_model._chips import Chip

# A product of 64 bits counts as two.
_COST = {"wide": ("multiply", 2.0)}


@dataclass(frozen=True)
class Row:
    """Holds what the model says of a case on a chip; numbers of instructions are a thread's for one element.

    `bound` is time over that of a copy's bytes where all overlaps, `apart` where a resident set of programs
    first waits for memory, then computes; the truth lies between the two. An attention's are over its own
    time `without` a mask, which is the number of its instructions then.
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
    without: float | None = None


def clocks(pipes: Counter[str], chip: Chip) -> dict[str, float]:
    """Clocks of a multiprocessor for a thread's instructions, by what takes them."""
    used: dict[str, float] = {}
    for name, count in pipes.items():
        pipe, cost = _COST.get(name, (name, 1.0)) if chip.backend == "cuda" else (
            "multiply" if name == "wide" else name, 1.0)  # fmt: skip
        used[pipe] = used.get(pipe, 0.0) + count * cost
    found = {name: n / chip.pipes[name] for name, n in used.items() if name in chip.pipes}
    return {"issue": sum(pipes.values()) / chip.issue, **found}


def resident(chip: Chip, registers: int, warps: int, shared: int) -> int:
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
