"""Every break, in the order of its files: each `breaks_*.py` of this folder has a list BREAKS."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from breaks import Break

EVERY: list[Break] = [
    one
    for file in sorted(Path(__file__).parent.glob("breaks_*.py"))
    for one in import_module(file.stem).BREAKS
]
