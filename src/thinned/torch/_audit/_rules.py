"""Each rule of an audit finds one kind of fault in the evidence: in masks, evaluations and orders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinned._audit import CHANNELS, SHARED, Finding, _evaluation
from thinned._audit._masks import drops, known, mask, multiplies
from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._watch import Call, Run


def differs(evidence: Evidence) -> Iterator[Finding]:
    """THN401: two evaluations differ, from some module on; said where no site drops in them."""
    first, second = evidence.evaluations
    if any(True for _ in _evaluation.drops_in_evaluation(evidence)):
        return
    if all(_equal(a, b) for a, b in zip(first.outputs, second.outputs, strict=False)):
        return
    for one, other in zip(first.steps, second.steps, strict=False):
        if _all_equal(one.inputs, other.inputs) and not _all_equal(one.outputs, other.outputs):
            yield Finding(
                "THN401",
                one.name,
                f"Two evaluations of {type(one.module).__name__} with equal inputs differ.",
                "Let it draw in training only.",
            )
            return


def _all_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


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


_LOGITS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_SOFTMAX = (torch.nn.Softmax, torch.nn.LogSoftmax)
_SHIFT = 1.1  # a variance in training above so much of that without dropout


def outputs(evidence: Evidence) -> Iterator[Finding]:
    """THN409: the last layer's outputs are dropped."""
    run = evidence.trainings[0]
    made = {id(one): step.module for step in run.steps for one in step.outputs}
    ends = {id(one) for one in run.outputs}
    ends |= {id(one) for step in run.steps if isinstance(step.module, _SOFTMAX) for one in step.inputs}
    for call in run.calls:
        of_logits = isinstance(made.get(id(call.given)), _LOGITS)
        if of_logits and id(call.made) in ends and not call.again and drops(call):
            yield Finding(
                "THN409",
                call.name,
                "It drops the outputs of the last layer: logits become 0 at random.",
                "Put it in front of the last layer.",
            )


def before_batch_norm(evidence: Evidence) -> Iterator[Finding]:
    """THN411: dropout raises the variance that a batch normalisation learns."""
    if evidence.quiet is None:
        return
    without = _variances(evidence.quiet)
    with_dropout: dict[str, list[float]] = {}
    for run in evidence.trainings:
        if any(drops(call) for call in run.calls):
            for name, variance in _variances(run).items():
                with_dropout.setdefault(name, []).append(variance)
    for name, values in with_dropout.items():
        base = without.get(name)
        ratio = sum(values) / len(values) / base if base else 1.0
        if ratio > _SHIFT:
            yield Finding(
                "THN411",
                name,
                f"By dropout in front of it the variance of its input is {ratio:.2g} times evaluation's.",
                "Put dropout behind the last batch normalisation.",
                {"ratio": ratio},
            )


def _variances(run: Run) -> dict[str, float]:
    return {step.name: step.variance for step in run.steps if step.variance is not None}


RULES: Final[tuple[Callable[[Any], Iterator[Finding]], ...]] = (
    *SHARED,
    differs,
    *(features_last, backward, no_backward, between_ranks),
    *(outputs, before_batch_norm),
)
