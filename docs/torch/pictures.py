"""Draw the pictures of these pages from masks of the library's own verbs.

    python docs/torch/pictures.py [name …]

Each function of the three files draws the .svg of its name beside this file. Needs the extras torch and cli.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import family_pictures
import mask_pictures
import model_pictures
from matplotlib.figure import Figure
from sheet import shorten

from thinned.demo.drawing import to_svg


def _functions(module: Any) -> dict[str, Callable[[], Figure]]:
    own = {
        name: each
        for name, each in vars(module).items()
        if getattr(each, "__module__", "") == module.__name__
    }
    return {name: each for name, each in own.items() if not name.startswith("_")}


_DRAWN = _functions(family_pictures) | _functions(mask_pictures) | _functions(model_pictures)
PICTURES: Final = dict(sorted(_DRAWN.items()))


def svg(name: str) -> str:
    """The picture of this name."""
    return shorten(to_svg(PICTURES[name](), name))


def main(names: list[str]) -> None:
    """Write the pictures of these names, or all."""
    for name in names or PICTURES:
        (Path(__file__).parent / f"{name}.svg").write_text(svg(name))


if __name__ == "__main__":
    main(sys.argv[1:])
