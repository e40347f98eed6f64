"""This file says which other packages are installed, and in which versions, without importing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Around an import: a package that is not there names the extra that brings it.

    Raises:
        ModuleNotFoundError: `… needs …, which is not installed: pip install 'thinned[…]'`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package.split(".")[0]:
            raise  # something that the package itself needs
        raise ModuleNotFoundError(
            f"this part of thinned needs {package}, which is not installed: pip install 'thinned[{extra}]'",
            name=error.name,
        ) from error
