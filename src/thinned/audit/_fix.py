"""Fixes are put into files here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from thinned.audit._finding import Edit, Finding, Position
from thinned.audit._notebook import Notebook
from thinned.audit._text import decoded, lines


def fixable(findings: Iterable[Finding], unsafe: bool) -> list[Finding]:
    """The findings that have a fix of the wanted kinds."""
    return [one for one in findings if one.fix is not None and (one.fix.safe or unsafe)]


def fixed_text(text: str, findings: Sequence[Finding]) -> tuple[str, list[Finding]]:
    """A text with the fixes of findings in it.

    Args:
        text: the one that they were found in.
        findings: with a fix each.

    Returns:
        The new text, and the findings that were mended. Of fixes that overlap the first one is put in; the
        next run finds the rest.
    """
    starts = [0]
    for line in lines(text):
        starts.append(starts[-1] + len(line))

    def offset(position: Position) -> int:
        return starts[position.line - 1] + position.column

    taken: list[tuple[int, int]] = []
    edits: list[Edit] = []
    mended = []
    for finding in findings:
        assert finding.fix is not None
        spans = [(offset(one.start), offset(one.end)) for one in finding.fix.edits]
        if any(begin <= end_ and begin_ <= end for begin, end in spans for begin_, end_ in taken):
            continue
        taken += spans
        edits += finding.fix.edits
        mended.append(finding)
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        text = text[: offset(edit.start)] + edit.text + text[offset(edit.end) :]
    return text, mended


class Fixed(NamedTuple):
    """A file's text before and after, the encoding to write it in, and the findings that were mended."""

    before: str
    after: str
    encoding: str
    mended: list[Finding]


def fixed_file(file: Path, findings: Sequence[Finding]) -> Fixed:
    """Return what a file is to become; nothing is written."""
    before, encoding = decoded(file.read_bytes())
    if file.suffix != ".ipynb":
        after, mended = fixed_text(before, findings)
        return Fixed(before, after, encoding, mended)
    notebook = Notebook(before)
    cells: dict[int, str] = {}
    mended = []
    for number in sorted({one.cell for one in findings if one.cell is not None}):
        own = [one for one in findings if one.cell == number]
        cells[number], done = fixed_text(notebook.cell(number), own)
        mended += done
    return Fixed(before, notebook.with_cells(cells), encoding, mended)


def diff(file: Path, before: str, after: str) -> str:
    """Return what would change, as a unified diff."""
    changes = difflib.unified_diff(lines(before), lines(after), str(file), str(file))
    return "".join(line if line.endswith("\n") else line + "\n" for line in changes)
