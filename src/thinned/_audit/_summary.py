"""The report of a model, from what its runs showed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from thinned._audit._calls import Evidence
from thinned._audit._masks import dropped_share
from thinned._audit._report import Audit, Finding


def report(evidence: Any, rules: Iterable[Callable[[Any], Iterator[Finding]]]) -> Audit:
    """Return what the rules find, what was seen at each site, and the sites' share of a training step."""
    findings = [finding for rule in rules for finding in rule(evidence)]
    return Audit(findings, sites_of(evidence), share_of(evidence))


def sites_of(evidence: Evidence) -> list[dict[str, Any]]:
    rows = []
    for (name, number), calls in evidence.calls().items():
        first = calls[0]
        rows.append(
            {
                "name": name if not number else f"{name} (call {number})",
                "kind": first.kind,
                "p": first.p,
                "dropped": dropped_share(calls),
                "shape": first.shape or tuple(first.input.shape),
                "seconds": sum(call.seconds for call in calls) / len(calls),
            }
        )
    return rows


def share_of(evidence: Evidence) -> float:
    """Of a training pass, one with a backward pass if there is one, in which dropout takes as long again."""
    run = next((one for one in evidence.trainings if one.backward), evidence.trainings[-1])
    spent = (1 + run.backward) * sum(call.seconds for call in run.calls if not call.again)
    return min(spent / run.seconds, 1.0) if run.seconds else 0.0
