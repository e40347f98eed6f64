"""What is computed once in a test run, however many of its processes ask for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


class Once:
    """Results by name, as JSON in a folder that the processes of this run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Any] = {}

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """The result of this name, which the first that asks computes while the others wait."""
        if name not in self._known:
            file = self._folder / f"{name}.json"
            with FileLock(file.with_suffix(".lock")):
                if not file.exists():
                    file.write_text(json.dumps(make()))
                self._known[name] = json.loads(file.read_text())
        return self._known[name]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Pytest's own for this run; a worker of xdist has a folder of its own in it."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
