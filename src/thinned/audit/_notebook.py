"""A Jupyter notebook as one text, and positions in it as positions in its cells."""

from __future__ import annotations

import json
from dataclasses import replace

from thinned.audit._finding import Edit, Finding, Fix, Position


class Notebook:
    """The code cells of a notebook, one after the other, with an empty line between two.

    Args:
        text: of the .ipynb file.

    Raises:
        json.JSONDecodeError, KeyError, TypeError, AttributeError: where it is no notebook.
    """

    def __init__(self, text: str) -> None:
        self._whole = json.loads(text)
        self._indent = 1 if text.startswith('{\n "') else None
        self._cells = [
            (number, cell)
            for number, cell in enumerate(self._whole["cells"], start=1)
            if cell["cell_type"] == "code" and not "".join(cell["source"]).startswith("%%")
        ]
        self._begins: list[tuple[int, int]] = []  # first line in the whole text, number of the cell
        lines: list[str] = []
        for number, cell in self._cells:
            self._begins.append((len(lines) + 1, number))
            lines += [_as_python(line) for line in "".join(cell["source"]).split("\n")]
            lines.append("")
        self.source = "\n".join(lines) + "\n"

    def located(self, finding: Finding) -> Finding:
        """The finding with positions in its cell."""
        first, number = max(begin for begin in self._begins if begin[0] <= finding.start.line)
        shift = first - 1

        def inner(position: Position) -> Position:
            return Position(position.line - shift, position.column)

        fix = finding.fix
        if fix is not None:
            edits = tuple(Edit(inner(one.start), inner(one.end), one.text) for one in fix.edits)
            fix = Fix(fix.message, edits, fix.safe)
        return replace(finding, start=inner(finding.start), end=inner(finding.end), fix=fix, cell=number)

    def cell(self, number: int) -> str:
        """The text of a cell."""
        return "".join(dict(self._cells)[number]["source"])

    def with_cells(self, texts: dict[int, str]) -> str:
        """The notebook's file with other texts in some of its cells."""
        for number, cell in self._cells:
            if number in texts:
                cell["source"] = texts[number].splitlines(keepends=True)
        return json.dumps(self._whole, indent=self._indent or 1, ensure_ascii=False) + "\n"


def _as_python(line: str) -> str:
    """A line of a cell, where what only IPython understands becomes `pass` of the same indentation."""
    bare = line.lstrip()
    if bare.startswith(("%", "!", "?")) or (bare.endswith("?") and not bare.startswith("#")):
        return line[: len(line) - len(bare)] + "pass"
    return line
