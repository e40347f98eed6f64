"""Which versions of other packages are installed, without importing them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import packages_distributions, version


def versions(modules: Iterable[str]) -> dict[str, str | None]:
    """Versions by the names of modules, as several packages bring `tensorflow`; None where there is none.

    A package installed in place, as this one is by its developers, has no record of its modules:
    it reads as None.
    """
    packages = packages_distributions()  # which reads the records of all that is installed
    return {name: version(packages[name][0]) if name in packages else None for name in modules}
