"""Times of the kernels on the GPU of this process, over a copy's: lines of JSON. `--dry` runs on the CPU.

In a dry run Triton interprets the kernels (TRITON_INTERPRET=1): its times mean nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from thinned.bench._gpu_model import CASES, SCORES, Case, Scores

ROUNDS = 15
_PASSES_OF_A_COPY = 2


def measured(case: Case, device: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Median seconds of the case and of a copy of the same bytes, taking turns."""
    source = torch.empty(case.elements, dtype=case.dtype, device=device).normal_()
    target = torch.empty_like(source)
    call = case.on(device)
    call()
    target.copy_(source)
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        times.append((seconds(call, device), seconds(lambda: target.copy_(source), device)))
    ours, copy = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times) * _PASSES_OF_A_COPY / case.passes
    return {**case.label(), "seconds": ours, "copy": copy, "ratio": ratio}


def attention(case: Scores, device: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Median seconds of the kernel with a mask, or of both that go back, and over those at p = 0."""
    calls = [case.on(device, p, small=device == "cpu") for p in (0.1, 0.0)]
    for call in calls:
        call()
    times = [[seconds(call, device) for call in calls] for _ in range(rounds)]
    ours, plain = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    return {**case.label(), "seconds": ours, "copy": plain, "ratio": ratio}


def seconds(call: Callable[[], object], device: str) -> float:
    """Of one call, by the device's clock."""
    if device == "cpu":
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def main() -> None:
    """Print the rows, each as soon as it is measured."""
    dry = "--dry" in sys.argv
    for case in CASES:
        if case.beside:
            continue  # a launch of a call that is measured as a whole
        row = measured(case.small() if dry else case, "cpu" if dry else "cuda", 1 if dry else ROUNDS)
        print(json.dumps({**row, "of": case.elements}), flush=True)
        if not dry:
            torch.cuda.empty_cache()
    for scores in SCORES:
        if scores.kernel != "queries":  # whose time is in that of the way back
            row = attention(scores, "cpu" if dry else "cuda", 1 if dry else ROUNDS)
            print(json.dumps({**row, "of": scores.elements}), flush=True)


if __name__ == "__main__":
    main()
