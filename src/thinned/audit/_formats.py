"""Findings are written here as text, JSON, annotations of GitHub and SARIF."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from thinned import __version__
from thinned.audit._finding import Finding, page
from thinned.audit._rules import RULES


def as_text(findings: Sequence[Finding]) -> str:
    """A line each, and one for all."""
    marks = [" [*]" if one.fix is not None and one.fix.safe else "" for one in findings]
    lines = [
        f"{_where(one)}: {one.code}{mark} {one.message}" for one, mark in zip(findings, marks, strict=True)
    ]
    return "\n".join([*lines, _total(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """A list of objects with ruff's fields."""
    return json.dumps([one.to_dict() for one in findings], indent=2)


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands, which GitHub shows beside the lines."""
    return "\n".join(
        f"::error title=thinned ({one.code}),file={_escaped(one.filename)},line={one.start.line},"
        f"col={one.start.column + 1},endLine={one.end.line},endColumn={one.end.column + 1}::"
        f"{_escaped(f'{_where(one)}: {one.code} {one.message}')}"
        for one in findings
    )


def as_sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0."""
    rules = sorted({one.code for one in findings})
    driver = {
        "name": "thinned audit",
        "version": __version__,
        "rules": [
            {
                "id": code,
                "name": RULES[code].name if code in RULES else "unreadable",
                "shortDescription": {"text": RULES[code].name if code in RULES else "unreadable"},
                "help": {"text": page(code)},
            }
            for code in rules
        ],
    }
    run = {"tool": {"driver": driver}, "results": [_result(one, rules.index(one.code)) for one in findings]}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(finding: Finding, index: int) -> dict[str, Any]:
    region = {
        "startLine": finding.start.line,
        "startColumn": finding.start.column + 1,
        "endLine": finding.end.line,
        "endColumn": finding.end.column + 1,
    }
    file = {"uri": finding.filename.replace("\\", "/")}
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": {"artifactLocation": file, "region": region}}],
    }


def _where(finding: Finding) -> str:
    cell = "" if finding.cell is None else f"cell {finding.cell}:"
    return f"{finding.filename}:{cell}{finding.start.line}:{finding.start.column + 1}"


def _total(findings: Sequence[Finding]) -> str:
    if not findings:
        return "No mistakes with dropout found."
    files = len({one.filename for one in findings})
    text = f"Found {_many(len(findings), 'mistake')} in {_many(files, 'file')}"
    safe = sum(one.fix is not None and one.fix.safe for one in findings)
    unsafe = sum(one.fix is not None for one in findings) - safe
    remedies = [f"{safe} can be mended with --fix"] * bool(safe)
    remedies += [f"{unsafe} more with --unsafe-fixes"] * bool(unsafe)
    return f"{text}; {', '.join(remedies)}." if remedies else f"{text}."


def _many(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


FORMATS: Final[dict[str, Callable[[Sequence[Finding]], str]]] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}
