"""Every experiment gives the report a section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        header: one entry a column.
        rows: the cells, as they are shown.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One experiment, told.

    Args:
        name: short, lower case: its anchor, and its key among the report's data.
        title: heading.
        finding: the outcome with its figures, in a sentence or two; the printed summary is made of these.
        text: paragraphs.
        figure: SVG.
        caption: what the figure shows.
        table: the figure's numbers.
        data: the same unrounded, ready for JSON.
    """

    name: str
    title: str
    finding: str
    text: tuple[str, ...]
    figure: str
    caption: str
    table: Table
    data: dict[str, Any]


def paragraphs(text: str) -> tuple[str, ...]:
    """Paragraphs of a text that leaves an empty line between them, each on one line."""
    return tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip())
