"""The table of docs/testing.md: each break, and the test that was red by it."""

from __future__ import annotations

from itertools import takewhile

from breaks import ROOT
from every import EVERY

PAGE = ROOT / "docs" / "testing.md"
HEAD = "| break | file | first test that is red |\n| --- | --- | --- |\n"


def _parts() -> tuple[str, list[str], str]:
    """The page before the table's rows, the rows, and the page after them."""
    before, head, body = PAGE.read_text().partition(HEAD)
    rows = list(takewhile(lambda line: line.startswith("|"), body.splitlines(keepends=True)))
    return before + head, rows, body[len("".join(rows)) :]


def rows() -> dict[str, str]:
    """By its name, the test that saw each break of the page's table."""
    cells = [[cell.strip(" |\n`") for cell in row.split(" | ", 2)] for row in _parts()[1]]
    return {name: test for name, _, test in cells}


def write(seen: dict[str, str]) -> None:
    """Exchange the rows of these breaks, and keep the others of those that there are."""
    known, (before, _, after) = {**rows(), **seen}, _parts()
    made = [
        f"| {one.name} | `{one.file}` | `{_short(known[one.name])}` |\n" for one in EVERY if one.name in known
    ]
    PAGE.write_text(before + "".join(made) + after)


def _short(test: str) -> str:
    """A test's name without tests/, and with as much of its parameters as tells it apart."""
    name, bracket, case = test.removeprefix("tests/").replace("|", "/").partition("[")
    return f"{name}[{case if len(case) <= 40 else case[:38] + '…]'}" if bracket else name
