"""This file says which other packages are installed, and in which versions, without importing them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec


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
