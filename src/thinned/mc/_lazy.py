"""A module loads some of its names here when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def later(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The module's `__getattr__`, for names and the modules that have them."""

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    return load
