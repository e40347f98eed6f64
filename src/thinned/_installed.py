"""This file says which other packages are installed, and how to get one that is not.

It imports none, but Keras where that is asked for: only its import says which framework it lacks.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


def versions(modules: Iterable[str]) -> dict[str, str | None]:
    """Versions by the names of modules, as several packages bring `tensorflow`; None where there is none.

    A package installed in place, as this one is by its developers, has no record of its modules:
    it reads as None.
    """
    packages = packages_distributions()  # which reads the records of all that is installed
    return {name: version(packages[name][0]) if name in packages else None for name in modules}


def missing(packages: Iterable[str]) -> str:
    """Return which of these there are not, in words; nothing where all are installed."""
    lacking = [package for package in packages if find_spec(package) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def needs(module: str, package: str, extra: str | None = None) -> None:
    """Say which extra a front end needs, before it imports a package that is not there.

    Args:
        module: which needs it.
        package: that it needs.
        extra: which brings it; None where none does, as the package serves a single method.

    Raises:
        ModuleNotFoundError: `thinned.torch needs torch, which is not installed: pip install …`.
    """
    if sys.modules.get(package) is None and find_spec(package) is None:
        remedy = f"pip install {package}" if extra is None else install(extra)
        raise ModuleNotFoundError(f"{module} needs {package}, which is not installed: {remedy}", name=package)


def needs_keras(module: str) -> None:
    """Say which extra brings Keras, or the framework that it is told to run on.

    Args:
        module: which needs them.

    Raises:
        ModuleNotFoundError: as `needs`; `… runs Keras on tensorflow, which is not installed: …`.
    """
    needs(module, "keras", "keras")
    try:
        importlib.import_module("keras")
    except ModuleNotFoundError as missing:
        if missing.name not in ("jax", "tensorflow", "torch"):
            raise
        raise ModuleNotFoundError(
            f"{module} runs Keras on {missing.name}, which is not installed: {install('keras,jax')} and set "
            "KERAS_BACKEND=jax; torch and tensorflow serve as well",
            name=missing.name,
        ) from None


def install(extra: str) -> str:
    """Return the line that adds an extra to this installation, from where it came."""
    came, path = origin()
    if path is None or not path.exists():
        return f'pip install "thinned[{extra}]"'
    if came.get("dir_info", {}).get("editable"):
        return f"pip install --editable {shlex.quote(f'{path}[{extra}]')}"
    return f"pip install {shlex.quote(f'thinned[{extra}] @ {path.as_uri()}')}"


def origin() -> tuple[dict[str, Any], Path | None]:
    """Return what pip recorded of this package's origin, and its path if it is on this machine."""
    try:
        record = distribution("thinned").read_text("direct_url.json")
    except PackageNotFoundError:
        record = None
    came = json.loads(record or "{}")
    parts = urlsplit(came.get("url", ""))
    return came, Path(url2pathname(parts.path)) if parts.scheme == "file" else None
