"""An audit returns the report of this file."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thinned._audit._calls import Evidence
from thinned._audit._masks import dropped_share


@dataclass(frozen=True)
class Finding:
    """One fault.

    Args:
        code: of the rule, such as `THN401`.
        site: qualified name of the module, empty for the model itself.
        what: one sentence on what happens.
        remedy: one sentence on what to do.
        measured: the numbers that it rests on.

    Example:
        >>> print(Finding("THN404", "drop", "It drops 0.9, and p is 0.1.", "Pass 1 - keep_prob."))
        THN404 drop: It drops 0.9, and p is 0.1. Pass 1 - keep_prob.
    """

    code: str
    site: str
    what: str
    remedy: str
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code} {self.site or 'the model'}: {self.what} {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data, for JSON."""
        return {
            "code": self.code,
            "site": self.site,
            "what": self.what,
            "remedy": self.remedy,
            "measured": dict(self.measured),
            "url": f"docs/audit/{self.code}.md",
        }


@dataclass(frozen=True)
class Audit:
    """The result of `thinned.torch.audit`.

    Args:
        findings: what is wrong, by rule.
        sites: what was seen at each site: its rate, how much it dropped, how long it took.
        share: of the time of a training step (forward and backward) that was spent at the sites, in [0, 1].

    Example:
        >>> import torch, thinned.torch
        >>> result = thinned.torch.audit(torch.nn.Sequential(torch.nn.Dropout(0.5)), torch.ones(64, 8))
        >>> result.findings, [site["name"] for site in result.sites]
        ([], ['0'])
    """

    findings: Sequence[Finding]
    sites: Sequence[Mapping[str, Any]]
    share: float

    def __bool__(self) -> bool:
        """True where there is a finding, as a list of them would be."""
        return bool(self.findings)

    def __str__(self) -> str:
        lines = [str(finding) for finding in self.findings] or ["No mistakes with dropout found."]
        count = f"{len(self.sites)} site{'' if len(self.sites) == 1 else 's'}"
        return "\n".join([*lines, f"{count}; {self.share:.0%} of a training step is spent there."])

    def print(self) -> None:
        """Print the findings, a line each, and a line on the sites."""
        print(self)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "sites": [dict(site) for site in self.sites],
            "share": self.share,
        }

    def to_html(self) -> str:
        """Two tables, of findings and of sites, as a fragment of HTML."""
        found = [(one.code, one.site, f"{one.what} {one.remedy}") for one in self.findings]
        seen = [tuple(site.values()) for site in self.sites]
        names = tuple(self.sites[0]) if self.sites else ()
        return _table(("code", "site", "finding"), found) + _table(names, seen)

    _repr_html_ = to_html


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "<p>No mistakes with dropout found.</p>" if names[:1] == ("code",) else "<p>No sites.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_shown(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


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
    """Estimates the share of a training pass that dropout takes, where it computes as much again."""
    run = next((one for one in evidence.trainings if one.backward), evidence.trainings[-1])
    spent = (1 + run.backward) * sum(call.seconds for call in run.calls if not call.again)
    return min(spent / run.seconds, 1.0) if run.seconds else 0.0
