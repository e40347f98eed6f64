"""The table of docs/torch/cuda.md: which kernel each verb and layer runs on a GPU."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "torch" / "cuda.md"
HEAD = "| kernel | verbs | layers |\n|---|---|---|\n"
_NAME = re.compile(r"`(\w+)`( that returns weights| with `need_weights=False`)?")


def kernels(text: str | None = None) -> dict[str, str]:
    """By the name of a verb or layer, its row's kernel; a name with words behind it has them too."""
    table = (PAGE.read_text() if text is None else text).partition(HEAD)[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for row in table.splitlines():
        kernel, names = row.strip("| ").split(" | ", 1)
        for name, condition in _NAME.findall(names):
            assert name + condition not in found, f"{name}{condition} has two rows"
            found[name + condition] = kernel
    return found
