"""These rules find an evaluation that is random, or that changes the model's state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from thinned._audit._calls import OTHER, Call, Evidence
from thinned._audit._masks import drops
from thinned._audit._report import Finding

_STATISTICS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "moving_mean",
    "moving_variance",
    "mean",
    "var",
)


def drops_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """THN401: a site drops in evaluation."""
    named = set()
    for call in (call for run in evidence.evaluations for call in run.calls):
        if (drops(call) or _opaque(call)) and call.name not in named:
            named.add(call.name)
            p = "" if call.p is None else f", p {call.p:g}"
            yield Finding(
                "THN401",
                call.name,
                f"It drops in evaluation ({call.kind}{p}).",
                "Tell it by training or deterministic, or make the layer where the model is made.",
                {"p": call.p},
            )


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
            "Leave it in evaluation: thinned.mc switches on dropout alone.",
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


def differs(evidence: Evidence) -> Iterator[Finding]:
    """THN401: two evaluations differ, and no site shows why."""
    first, second = evidence.evaluations
    if any(True for _ in drops_in_evaluation(evidence)):
        return
    if not all(
        np.array_equal(*pair, equal_nan=True) for pair in zip(first.outputs, second.outputs, strict=False)
    ):
        yield Finding(
            "THN401", "", "Two evaluations with equal inputs differ.", "Let it draw in training only."
        )


RULES = (drops_in_evaluation, moves_statistics, leaves_traces)
