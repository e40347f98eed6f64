"""The table of docs/testing.md: each break, and the test that was red by it."""

from __future__ import annotations

from breaks import NATIVE, ROOT
from breaks_python import PYTHON

PAGE = ROOT / "docs" / "testing.md"
HEAD = "| break | file | first test that is red |\n| --- | --- | --- |\n"


def rows() -> dict[str, str]:
    """By its name, the test that saw each break of the page's table."""
    _, _, body = PAGE.read_text().partition(HEAD)
    lines = body.partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {name: test.strip("`") for name, _, test in cells}


def write(seen: dict[str, str]) -> None:
    """Exchange the rows of these breaks, and keep the others of those that there are."""
    known = {**rows(), **seen}
    before, head, body = PAGE.read_text().partition(HEAD)
    after = body.partition("\n\n")[2]
    table = "".join(
        f"| {one.name} | `{one.file}` | `{known[one.name]}` |\n"
        for one in [*PYTHON, *NATIVE]
        if one.name in known
    )
    PAGE.write_text(f"{before}{head}{table}\n{after}")
