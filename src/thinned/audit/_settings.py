"""This file says which rules are on: by the command's options, by pyproject.toml, or by default."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinned.audit._check import DEFAULT, UNREADABLE
from thinned.audit._rules import RULES


@dataclass(frozen=True)
class Settings:
    """Holds what a project, or a call, asks for.

    Args:
        select: codes or beginnings of codes; `ALL`. None: what is on by default.
        ignore: the same, taken out.
        extend: the same, put in beside what is selected.
        exclude: glob patterns of files and folders.
    """

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    extend: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def codes(self) -> list[str]:
        """The codes of the rules that are on.

        Raises:
            ValueError: `unknown rule …`.
        """
        wanted = set(DEFAULT) if self.select is None else _matching(self.select)
        wanted |= _matching(self.extend)
        wanted -= _matching(self.ignore)
        return [code for code in RULES if code in wanted]


def of_project(paths: Sequence[Path]) -> Settings:
    """`[tool.thinned.audit]` of the nearest pyproject.toml above the first path.

    Raises:
        ValueError: naming the file, where a setting is wrong.
    """
    start = (paths[0] if paths else Path()).absolute()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return _read(file)
    return Settings()


def _read(file: Path) -> Settings:
    try:
        whole: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    table = whole
    for part in ("tool", "thinned", "audit"):
        table = table.get(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"{file}: {part} of [tool.thinned.audit] must be a table, got {table!r}")
    names = {"select": "select", "ignore": "ignore", "extend-select": "extend", "exclude": "exclude"}
    for name, value in table.items():
        if name not in names:
            raise ValueError(f"{file}: [tool.thinned.audit] has no setting {name!r}: {', '.join(names)}")
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{file}: {name} must be a list of strings, got {value!r}")
    settings = Settings(**{names[name]: tuple(value) for name, value in table.items()})
    try:
        settings.codes()
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return settings


def _matching(beginnings: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for beginning in beginnings:
        upper = beginning.upper()
        some = {code for code in RULES if upper == "ALL" or code.startswith(upper)}
        if not some and upper != UNREADABLE:
            raise ValueError(f"unknown rule {beginning!r}: rules begin with THN1, THN2 or THN3")
        found |= some
    return found
