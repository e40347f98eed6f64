"""These rules are about orders of sites in which dropout does harm, as they were executed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from thinned._audit import Finding
from thinned._audit._masks import drops
from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._watch import Run

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


RULES = (outputs, before_batch_norm)
