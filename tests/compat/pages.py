"""Tables in the documents that a command fills in, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def note(page: Path, head: str, cells: Iterable[str], order: Iterable[str]) -> None:
    """Put a row into a page's table, in this order of the first cells.

    The table stands between the comments `<!-- rows -->` and `<!-- end of rows -->`.
    """
    text = page.read_text()
    table = re.search(r"(?<=<!-- rows -->\n).*?(?=<!-- end of rows -->)", text, re.DOTALL)
    assert table is not None, f"{page} has no table to fill in"
    lines = {line.split("|")[1].strip(): line for line in table[0].splitlines()[2:]}
    first, *others = cells
    lines[first] = f"| {' | '.join([first, *others])} |"
    rule = "|" + " --- |" * (head.count("|") + 1)
    known = [lines[name] for name in order if name in lines]
    rows = "\n".join([f"| {head} |", rule, *known]) + "\n"
    page.write_text(text[: table.start()] + rows + text[table.end() :])
