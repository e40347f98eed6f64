"""A Jupyter notebook is read here as one text, and positions in it as positions in its cells."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import libcst as cst

from thinned.audit._finding import Edit, Finding, Fix, Position
from thinned.audit._text import lines, parsed

# A magic, a command of the shell, or a question; or a name that is given what one of the first two says.
_IPYTHON = re.compile(
    r"^(\s*)(?:[%!?].*|[^#\s].*\?|[\w.,\s]+=\s*[%!].*"
    r"|(?:pip3?|conda|mamba|uv|cd|ls|mkdir|cat|rm|cp|mv) +[^=].*)$",
    re.DOTALL,
)
_SEPARATORS = {True: (",", ": "), False: (", ", ": ")}


class Notebook:
    """The code cells of a notebook, one after the other, with an empty line between two.

    Args:
        text: of the .ipynb file.

    Raises:
        json.JSONDecodeError, KeyError, TypeError, AttributeError: where it is no notebook.
    """

    def __init__(self, text: str) -> None:
        self._whole = json.loads(text)
        self._text = text
        self._cells = [
            (number, cell)
            for number, cell in enumerate(self._whole["cells"], start=1)
            if cell["cell_type"] == "code" and not "".join(cell["source"]).startswith("%%")
        ]
        self.broken: dict[int, SyntaxError] = {}  # by the cell's number
        self._begins: list[tuple[int, int]] = []  # first line in the whole text, number of the cell
        all_lines: list[str] = []
        for number, cell in self._cells:
            self._begins.append((len(all_lines) + 1, number))
            code = _as_python("".join(cell["source"]))
            try:
                parsed(code)
            except SyntaxError as error:
                self.broken[number], code = error, "\n" * code.count("\n")
            except (ValueError, RecursionError, MemoryError):
                pass  # the whole is refused, in words
            all_lines += code.split("\n")
            all_lines.append("")
        self.source = "\n".join(all_lines) + "\n"

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

    def shows(self, finding: Finding) -> bool:
        """Tells whether a finding stands on the last line of code of its cell, whose value is shown."""
        begin, number = max(one for one in self._begins if one[0] <= finding.start.line)
        code = self.cell(number).rstrip()
        return finding.end.line - begin + 1 == code.count("\n") + 1 and not code.endswith(";")

    def cell(self, number: int) -> str:
        """The text of a cell."""
        return "".join(dict(self._cells)[number]["source"])

    def with_cells(self, texts: dict[int, str]) -> str:
        """The notebook's file with other texts in some of its cells, laid out as it was."""
        for number, cell in self._cells:
            if number in texts:
                as_lines = isinstance(cell["source"], list)
                cell["source"] = lines(texts[number]) if as_lines else texts[number]
        indent = re.match(r"\{\r?\n([ \t]*)", self._text)
        end = self._text[len(self._text.rstrip()) :]
        own = json.dumps(
            self._whole,
            indent=indent and indent[1],
            ensure_ascii=self._text.isascii(),
            separators=_SEPARATORS[bool(indent)],
        )
        return own + end


def _as_python(cell: str) -> str:
    """A cell as it is, or with `pass` in place of the lines that only IPython understands."""
    plain: list[str] = []
    goes_on = False
    for line in cell.split("\n"):
        ipython = _IPYTHON.match(line)
        plain.append("" if goes_on else f"{ipython[1]}pass" if ipython else line)
        goes_on = (goes_on or bool(ipython)) and line.rstrip().endswith("\\")
    replaced = "\n".join(plain)
    if replaced == cell:
        return cell
    try:
        cst.parse_module(cell)
    except cst.ParserSyntaxError:
        return replaced
    return cell  # a line that continues another may begin with a sign of IPython's, or stand in a string
