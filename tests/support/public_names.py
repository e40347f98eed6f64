"""Every public module and its names, as `tests/structure/public_names.txt` has them: a line each."""

from __future__ import annotations

from pathlib import Path

LIST = Path(__file__).parents[1] / "structure" / "public_names.txt"


def public_names() -> dict[str, list[str]]:
    """Sorted names by module; a name that comes or goes is a change of the list too."""
    found: dict[str, list[str]] = {}
    for line in LIST.read_text().splitlines():
        module, *name = line.split()
        found.setdefault(module, []).extend(name)
    return found
