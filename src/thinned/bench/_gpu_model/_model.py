"""The model computes what bounds a kernel on a GPU.

A case is compiled by Triton, its assembly is read, and what its usual way does is divided by what is
published of the chip. The model knows no cache, no clock that is lowered, and no program that waits for
another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thinned.bench._gpu_model._absent import Launch, assembly, compiling, resources
from thinned.bench._gpu_model._cases import Case
from thinned.bench._gpu_model._chips import CHIPS
from thinned.bench._gpu_model._code import around, by_pipe, usual, width
from thinned.bench._gpu_model._row import Row, clocks, resident
from thinned.bench._gpu_model._scores import ALL, ARCHS, Scores


def predict(case: Case, launch: Launch, arch: str) -> Row:
    """A case's row, of its launch compiled for a chip."""
    chip = CHIPS[arch]
    kernel = launch.kernel
    registers, spilled = resources(kernel)
    text = assembly(kernel)
    names = usual(text, chip.backend)
    if case.turns > 1:
        names += (case.turns - 1) * around(text, chip.backend)
    pipes = by_pipe(names, chip.backend)
    warps = kernel.metadata.num_warps
    each = (
        case.elements / launch.programs / (warps * chip.lanes) / case.spans
    )  # elements of a thread at a time
    # Clocks of a multiprocessor for one element, by what takes them.
    taken = {name: n / each for name, n in clocks(pipes, chip).items()}
    moved = case.passes * case.dtype.itemsize / chip.bytes_a_clock()
    limit, most = max(taken.items(), key=lambda c: c[1])
    programs = resident(chip, registers, warps, kernel.metadata.shared)
    in_one = programs * warps * chip.lanes * each * case.spans
    least = 0.0 if case.beside else 1.0
    rounds = math.ceil(launch.programs / chip.units / programs) * chip.units * programs / launch.programs
    apart = rounds * (case.spans * chip.latency / in_one + most)
    return Row(
        case.name, str(case.dtype).removeprefix("torch."), case.elements, arch, registers, spilled, warps,
        programs * warps * chip.lanes / chip.threads, width(names, "load"), width(names, "store"),
        len(names) / each, {name: n / each for name, n in sorted(pipes.items())},
        "memory" if moved >= most else limit, max(least, most / moved), max(least, apart / moved),
    )  # fmt: skip


def select(match: str) -> list[Case | Scores]:
    """Return the cases whose name, dtype and size, such as "dropout bfloat16 256Mi", contain a text.

    Raises:
        ValueError: `no case of the GPU model has …`.
    """
    found = [case for case in ALL if match in _text(case)]
    if not found:
        names = sorted({case.name for case in ALL})
        raise ValueError(f"no case of the GPU model has {match!r}; there are {', '.join(names)}")
    return found


def rows(
    cases: Sequence[Case | Scores],
    archs: Sequence[str],
    tell: Callable[[str, int], None] = lambda name, done: None,
) -> list[Row]:
    """Compile cases for chips, by their names in `CHIPS`.

    Args:
        cases: of `CASES` and `SCORES`.
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
            if isinstance(case, Scores):
                found += [case.predict(arch)] if arch in ARCHS else []
                continue
            with compiling(chip.arch, chip.backend) as made:
                case.on("meta")()
            found.append(predict(case, _launch_of(case, made), arch))
    tell("done", int(bool(found)))
    return found


def _launch_of(case: Case, made: Sequence[Launch]) -> Launch:
    return next(launch for launch in made if case.kernel in (None, launch.name))


def _text(case: Case | Scores) -> str:
    label = case.label()
    return f"{label['kernel']} {label['dtype']} {case.elements >> 20}Mi"
