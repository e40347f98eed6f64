"""These rules are about masks of the backward pass, of ranks, and along a wrong dimension."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from thinned._audit import CHANNELS, Finding
from thinned._audit._masks import drops, known, mask, multiplies
from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._watch import Call

_FEATURES_LAST = (
    torch.nn.Linear,
    torch.nn.LayerNorm,
    torch.nn.Embedding,
    torch.nn.LSTM,
    torch.nn.GRU,
    torch.nn.RNN,
)


def features_last(evidence: Evidence) -> Iterator[Finding]:
    """THN408: channels are dropped where the features come last."""
    for (name, number), calls in evidence.calls().items():
        seen = [call for call in calls if drops(call)]
        if not number and seen and seen[0].kind == CHANNELS and _features_last(evidence, seen[0]):
            yield Finding(
                "THN408",
                name,
                f"It drops dimension 1 of {seen[0].shape}, and its features are in the last one.",
                "See which dimension is the batch, and which the features.",
            )


def _features_last(evidence: Evidence, call: Call) -> bool:
    for run in evidence.trainings:
        for step in run.steps:
            if any(one is call.given for one in step.outputs):
                return isinstance(step.module, _FEATURES_LAST) and call.input.ndim > 2
    return False


def backward(evidence: Evidence) -> Iterator[Finding]:
    """THN414: the backward pass has another mask than the forward pass."""
    named: set[str] = set()
    for call in _differing(evidence):
        if call.name not in named:
            named.add(call.name)
            yield Finding(
                "THN414",
                call.name,
                "Its gradient has another mask than its output.",
                "Leave preserve_rng_state on, or use keys; a gradient by hand takes the forward mask.",
            )


def _differing(evidence: Evidence) -> Iterator[Call]:
    run = evidence.trainings[0]
    first = {(call.name, call.number): call for call in run.calls if not call.again}
    for call in run.calls:
        if not multiplies(call):
            continue
        seen = known(call)
        if call.gradient is not None and bool(((call.gradient != 0) != mask(call))[seen].any()):
            yield call
        before = first.get((call.name, call.number))
        if call.again and before is not None and before.input.shape == call.input.shape:
            equal = np.array_equal(before.input, call.input)
            if equal and bool((mask(before) != mask(call))[seen].any()):
                yield call


def between_ranks(evidence: Evidence) -> Iterator[Finding]:
    """THN416: all ranks of a data-parallel run draw the masks of rank 0, for other samples."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    calls = [(c.name, c) for run in evidence.trainings[:1] for c in run.calls if drops(c) and not c.again]
    mine = [(name, _digest(call.input), _digest(mask(call))) for name, call in calls]
    all_ranks: list[list[tuple[str, str, str]]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(all_ranks, mine)
    for index, (name, data, bits) in enumerate(mine):
        others = [rank[index] for rank in all_ranks if len(rank) == len(mine)]
        if len(others) > 1 and all(other[2] == bits for other in others) and {o[1] for o in others} != {data}:
            yield Finding(
                "THN416",
                name,
                "All ranks drop the same elements of different samples.",
                "Tell each rank its rows by thinned.torch.set_rows, or seed the ranks apart.",
            )


def _digest(array: npt.NDArray[np.generic]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def no_backward(evidence: Evidence) -> Iterator[Finding]:
    """THN417: the backward pass fails, often since dropout wrote over what a gradient needs."""
    if evidence.trainings[0].failed:
        yield Finding(
            "THN417",
            "",
            f"Its backward pass fails: {evidence.trainings[0].failed}.",
            "Dropout in place writes over what some gradients need: pass inplace=False.",
        )


RULES = (features_last, backward, no_backward, between_ranks)
