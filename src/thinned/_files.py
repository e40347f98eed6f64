"""Tools read files here that may be damaged, and write files that are complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UnreadableError(ValueError):
    """A file is not what it was taken for: the message has its name and the reason, in one line.

    Example:
        >>> try:
        ...     with reading("a.npz", "arrays"):
        ...         raise EOFError("No data left in file")
        ... except UnreadableError as error:
        ...     print(error)
        cannot read 'a.npz' as arrays: No data left in file
    """


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever is raised inside into an `UnreadableError`.

    All exceptions, and no list of them: of wrong bytes the readers of formats make errors of their own,
    EOFError, KeyError, AssertionError, zlib.error, MemoryError and others.

    Args:
        path: of the file that is read inside.
        kind: what the file should be, for the message.
    """
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"cannot read {str(path)!r} as {kind}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Return what an exception says, in one line."""
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file or directory beside `path`, and put it in its place at the end.

    Where the block raises, or the process ends, `path` is as it was. What is no regular file, such as
    /dev/stdout, is written to directly.

    Args:
        path: to write: a file that may exist, or a directory that is new or empty.

    Yields:
        The path to write to, of the same suffix.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    place = path.resolve()  # a link stays one: what it points to is replaced
    beside = place.with_name(f".{place.stem}.{os.getpid()}.part{place.suffix}")
    try:
        yield beside
        if place.is_file():
            shutil.copymode(place, beside)
        os.replace(beside, place)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
