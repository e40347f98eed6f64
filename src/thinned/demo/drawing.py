"""Figures are drawn here in the colours of the page around them, light or dark."""

from __future__ import annotations

import io
import re
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

PAPER: Final = "#fcfbf8"
INK: Final = "#24292e"
GREY: Final = "#8a8f94"
RED: Final = "#b5482a"
BLUE: Final = "#23658f"
GREEN: Final = "#4b7f52"
GRID: Final = "#e6e3db"

# In a page these are variables, whose values for light and for dark the page has.
_VARIABLES: Final = {
    PAPER: "paper",
    INK: "figure-ink",
    GREY: "grey",
    RED: "red",
    BLUE: "blue",
    GREEN: "green",
    GRID: "grid",
}

_MARGIN = 0.12  # inches
_STYLE: Final[dict[Any, Any]] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "font.size": 10,
}


def canvas(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, and its axes."""
    figure, (axes,) = row(1, width, height)
    return figure, axes


def row(count: int, width: float = 7.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """An empty figure with this many axes side by side."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=_MARGIN, h_pad=_MARGIN))
        return figure, [figure.add_subplot(1, count, place + 1) for place in range(count)]


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids begin with `name`, so that many fit into one page."""
    for text in figure.findobj(Text):
        colour = text.get_color()
        # Of a legend, which was made after the canvas with the ordinary style; others may be numbers.
        if isinstance(colour, str) and colour == "black":
            text.set_color(INK)
    file = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = re.sub(rf"(: ){colour}\b", rf"\1var(--{variable}, {colour})", svg)
    return svg
