"""A front end asks here for names that another package does not promise to keep.

Each front end has one room for such names, its `_compat`. A name is asked for when the room is imported.
Where it is gone, its fallback stands for it; without one, every use of the name raises the room's message.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

NOTHING = "nothing public"
_NONE: Any = object()


class Name(NamedTuple):
    """A name in a room.

    Attributes:
        path: `package.module.name`; of an attribute of objects, its name alone.
        purpose: what it is needed for, as the message says it.
        instead: what public thing would replace it.
        fallback: what stands for it where the package lacks it, or an object that raises the message.
        value: the package's own, or the fallback.
    """

    path: str
    purpose: str
    instead: str
    fallback: Any
    value: Any


class Missing:
    """Stands for a name that is gone: every use of it raises an ImportError that says so."""

    def __init__(self, message: str) -> None:
        self._message = message

    def _refuse(self, *_: Any, **__: Any) -> Any:
        """Raise the message."""
        raise ImportError(self._message)

    __call__ = __enter__ = __exit__ = __getitem__ = __iter__ = __and__ = __rand__ = _refuse
    __instancecheck__ = __mro_entries__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()


class Room:
    """The private names of one package.

    Args:
        package: the package, which has a `__version__`.
        by: the front end that needs them.
        tested: what to install instead, as pip takes it.
    """

    def __init__(self, package: Any, by: str, tested: str) -> None:
        self.names: list[Name] = []
        self._package, self._by, self._tested = package, by, tested

    def name(self, path: str, purpose: str, fallback: Any = _NONE, instead: str = NOTHING) -> Any:
        """Return what the package has by a dotted name, or what stands for it."""
        stand_in = self._missing(path, purpose) if fallback is _NONE else fallback
        try:
            value = resolve(path)
        except (ImportError, AttributeError):
            value = stand_in
        self.names.append(Name(path, purpose, instead, stand_in, value))
        return value

    def attribute(
        self, name: str, purpose: str, fallback: Any = _NONE, instead: str = NOTHING
    ) -> Callable[[Any], Any]:
        """A function that reads a private attribute of an object."""
        stand_in = self._missing(name, purpose) if fallback is _NONE else fallback

        def read(thing: Any) -> Any:
            value = getattr(thing, name, _NONE)
            if value is not _NONE:
                return value
            return stand_in._refuse() if isinstance(stand_in, Missing) else stand_in

        self.names.append(Name(name, purpose, instead, stand_in, read))
        return read

    def lacks(self, *paths: str) -> list[str]:
        """Those of the names that the package does not have."""
        return [name.path for name in self.names if name.path in paths and name.value is name.fallback]

    def check(self, *paths: str) -> None:
        """Refuse a package that lacks one of the names.

        Raises:
            ImportError: `this …, …, lacks …`.
        """
        for name in self.names:
            if name.path in paths and isinstance(name.value, Missing):
                name.value()

    def _missing(self, path: str, purpose: str) -> Missing:
        package, version = self._package.__name__, self._package.__version__
        return Missing(
            f"this {package}, {version}, lacks {path}: {self._by} needs it to {purpose}; install a "
            f'version that was tested, pip install "{self._tested}" (docs/compatibility.md)'
        )


def resolve(path: str) -> Any:
    """Return what a dotted name stands for, importing as far as needed."""
    return pkgutil.resolve_name(path)
