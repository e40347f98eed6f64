"""Masks on sheets of paper: what the pictures are drawn with."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from thinned.demo.drawing import BLUE, INK, canvas

EMPTY: Final = "#e2ded3"
GAP: Final = 0.08  # of a cell, on each side
KEPT: Final = {"kept": BLUE, "dropped": EMPTY}


def sheet(columns: float, rows: float, cell: float) -> tuple[Figure, Axes]:
    """An empty sheet measured in cells, of so many inches each, from its upper left corner."""
    figure, axes = canvas(columns * cell, rows * cell)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    return figure, axes


def say(axes: Axes, x: float, y: float, words: str, **how: Any) -> None:
    """Words on the line y."""
    axes.text(x, y, words, va="center", **{"fontsize": 9, "color": INK, **how})


def cells(axes: Axes, left: float, top: float, where: Any, colour: str = BLUE) -> None:
    """One square for each True of a matrix, as one path."""
    corners = []
    for y, x in np.argwhere(np.asarray(where)):
        x0, x1, y0, y1 = left + x + GAP, left + x + 1 - GAP, top + y + GAP, top + y + 1 - GAP
        corners += [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    codes = [Outline.MOVETO, *(Outline.LINETO,) * 3, Outline.CLOSEPOLY] * (len(corners) // 5)
    if corners:
        axes.add_patch(PathPatch(Outline(corners, codes), facecolor=colour, linewidth=0))


def mask(axes: Axes, left: float, top: float, kept: Any, title: str = "") -> None:
    """Kept elements dark, dropped ones light, under a title."""
    kept = np.asarray(kept) != 0
    cells(axes, left, top, kept)
    cells(axes, left, top, ~kept, EMPTY)
    say(axes, left, top - 0.9, title)


def shades(axes: Axes, left: float, top: float, values: Any, title: str = "", colour: str = BLUE) -> None:
    """Numbers from 0 (light) to 1 (dark) in sixteen shades, under a title."""
    level = np.round(np.clip(np.asarray(values), 0, 1) * 15)
    ramp = colors.LinearSegmentedColormap.from_list("", [EMPTY, colour])
    for one in np.unique(level):
        cells(axes, left, top, level == one, colors.to_hex(ramp(one / 15)))
    say(axes, left, top - 0.9, title)


def legend(axes: Axes, x: float, y: float, entries: dict[str, str], step: float) -> None:
    """Words and their colours, side by side."""
    for place, (words, colour) in enumerate(entries.items()):
        cells(axes, x + place * step, y - 0.5, [[True]], colour)
        say(axes, x + place * step + 1.5, y, words, fontsize=8)


def shorten(text: str) -> str:
    """Rectangles by two corners, numbers to a hundredth of a point, colours without variables."""
    text = re.sub(r"var\(--[\w-]+, ([^)]+)\)", r"\1", text)
    n = r"(-?[0-9]+(?:\.[0-9]+)?)"
    text = re.sub(rf"M {n} {n} \nL {n} \2 \nL \3 {n} \nL \1 \4 \n(?:L \1 \2 \n)?z", r"M\1 \2H\3V\4H\1z", text)
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.[0-9]{2})[0-9]+", r"\1", path[0]), text)
