"""A rule reports by the classes of this file: a place, what happens there, the remedy and an edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Position(NamedTuple):
    """A line, counted from 1, and a column, counted from 0.

    Example:
        >>> Position(2, 4) < Position(3, 0)
        True
    """

    line: int
    column: int


@dataclass(frozen=True)
class Edit:
    """Replace the text between two positions.

    Example:
        >>> Edit(Position(1, 0), Position(1, 0), "x = ").text
        'x = '
    """

    start: Position
    end: Position
    text: str


@dataclass(frozen=True)
class Fix:
    """Edits that mend a finding.

    Args:
        message: what they do.
        edits: in any order; they do not overlap.
        safe: whether the code means afterwards what its author wrote it for, beyond doubt.

    Example:
        >>> Fix("call it", (Edit(Position(1, 5), Position(1, 5), "()"),), safe=True).message
        'call it'
    """

    message: str
    edits: tuple[Edit, ...]
    safe: bool


@dataclass(frozen=True)
class Finding:
    """One place that a rule reports.

    Args:
        code: of the rule, such as `THN101`.
        filename: as it was given or found.
        start: first position.
        end: position behind the last.
        what: one sentence on what happens.
        remedy: one sentence on what to do.
        fix: an edit, if there is one.
        cell: number of a notebook's cell, counted from 1; positions then count in the cell.

    Example:
        >>> Finding("THN115", "a.py", Position(1, 0), Position(1, 5), "What.", "Remedy.").message
        'What. Remedy.'
    """

    code: str
    filename: str
    start: Position
    end: Position
    what: str
    remedy: str
    fix: Fix | None = field(default=None, compare=False)
    cell: int | None = None

    @property
    def message(self) -> str:
        """Return what happens and the remedy, as one text."""
        return f"{self.what} {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """The finding as ruff's JSON has one: rows and columns counted from 1.

        Returns:
            `code`, `filename`, `location`, `end_location`, `message`, `fix`, `cell`, `url`.
        """
        return {
            "code": self.code,
            "filename": self.filename,
            "location": _one_based(self.start),
            "end_location": _one_based(self.end),
            "message": self.message,
            "fix": None if self.fix is None else _fix(self.fix),
            "cell": self.cell,
            "url": page(self.code),
        }


def page(code: str) -> str:
    """The page of a rule, in the project's documents."""
    return f"docs/audit/{code}.md"


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "applicability": "safe" if fix.safe else "unsafe",
        "message": fix.message,
        "edits": [
            {
                "content": edit.text,
                "location": _one_based(edit.start),
                "end_location": _one_based(edit.end),
            }
            for edit in fix.edits
        ],
    }


def _one_based(position: Position) -> dict[str, int]:
    return {"row": position.line, "column": position.column + 1}
