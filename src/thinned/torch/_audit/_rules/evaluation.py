"""Evaluation: random, or with traces left behind."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from thinned.torch._audit._evidence import Evidence
from thinned.torch._audit._masks import drops
from thinned.torch._audit._report import Finding
from thinned.torch._audit._watch import OTHER, Call

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def drops_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """THN401: a site drops in evaluation; or two evaluations differ, from some module on."""
    named = set()
    for call in (call for run in evidence.evaluations for call in run.calls):
        if (drops(call) or _opaque(call)) and call.name not in named:
            named.add(call.name)
            p = "" if call.p is None else f", p {call.p:g}"
            yield Finding(
                "THN401",
                call.name,
                f"It drops in evaluation ({call.kind}{p}).",
                "Pass training=self.training, or make the layer in __init__.",
                {"p": call.p},
            )
    first, second = evidence.evaluations
    if named or all(_equal(a, b) for a, b in zip(first.outputs, second.outputs, strict=False)):
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


def _opaque(call: Call) -> bool:
    """Attention that drops: its mask cannot be seen in its output."""
    return call.kind == OTHER and call.training is None and bool(call.p)


def moves_statistics(evidence: Evidence) -> Iterator[Finding]:
    """THN412: an evaluation moves the statistics of a batch normalisation."""
    owners = {name.rpartition(".")[0] for name in evidence.changed if name.endswith(_STATISTICS)}
    for owner in sorted(owners):
        yield Finding(
            "THN412",
            owner,
            "Its statistics move in evaluation.",
            "Leave it in evaluation: thinned.mc.active switches on dropout alone.",
        )


def leaves_traces(evidence: Evidence) -> Iterator[Finding]:
    """THN413: an evaluation changes modes, rates, parameters or buffers."""
    for name in evidence.changed:
        if not name.endswith(_STATISTICS):
            yield Finding(
                "THN413",
                name,
                "An evaluation changes it, and leaves it changed.",
                "Put it back afterwards, or do not change it.",
            )


def _all_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


RULES = (drops_in_evaluation, moves_statistics, leaves_traces)
