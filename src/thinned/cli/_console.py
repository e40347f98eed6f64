"""Commands print results on stdout, progress on stderr and errors in one line."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thinned._files import UnreadableError, reason, replacing
from thinned._installed import install

# What stands for a character that a terminal's encoding lacks; for others a question mark.
_PLAIN: Final = {
    "…": "...",
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "*",
    "±": "+-",
    "Σ": "sum ",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "√": "sqrt ",
    "’": "'",
    "“": '"',
    "”": '"',
}


class InputError(click.ClickException):
    """An input is wrong: one line, and exit status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Commands(click.Group):
    """A group whose commands run on every terminal, and end in one line where the machine is too small."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, with streams that take every character."""
        for stream in (sys.stdout, sys.stderr):
            take_all_characters(stream)
        return super().main(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        """Run a command.

        Raises:
            InputError: what was asked for does not fit into memory.
        """
        try:
            return super().invoke(context)
        except MemoryError as error:
            raise InputError(f"not enough memory: {reason(error)}") from error


def take_all_characters(stream: Any) -> None:
    """Let a stream of any encoding, ASCII or cp1252 say, write what it lacks in other characters."""
    codecs.register_error("thinned.plain", _in_plain_characters)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="thinned.plain")


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in missing), error.end


class OutPath(click.Path):
    """A file or directory to write, refused before any work if it cannot be."""

    def __init__(self, *, directory: bool = False) -> None:
        super().__init__(dir_okay=directory, file_okay=not directory, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            click.BadParameter: `cannot write …`.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.exists():
            return path
        folder = path.resolve().parent
        wrong = (
            f"there is no directory {str(folder)!r}"
            if not folder.is_dir()
            else f"no permission to write in {str(folder)!r}"
            if not os.access(folder, os.W_OK)
            else ""
        )
        if wrong:
            self.fail(f"cannot write {str(path)!r}: {wrong}", param, ctx)
        return path


def memory() -> int:
    """Bytes of this machine's memory; where it does not say, as many as an index can count."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def show(*things: Any) -> None:
    """Print text or rich tables to stdout."""
    console = Console(highlight=False)
    for thing in things:
        console.print(thing)


def show_json(value: dict[str, Any]) -> None:
    """Print one JSON object to stdout."""
    click.echo(json.dumps(value, indent=2))


def progress_bar() -> Progress:
    """A progress bar on stderr that leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra to install where a package that the command needs is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "a package").partition(".")[0]
        raise click.ClickException(
            f"{package} is not installed, and this needs it: {install(name)}"
        ) from None


@contextmanager
def wrong_arguments() -> Iterator[None]:
    """Turn what the library says of its arguments and files into an error of the command line (status 2)."""
    try:
        yield
    except UnreadableError as error:
        raise InputError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[Path]:
    """Give a neighbour to write to, which takes the path's place at the end; the option names it in errors.

    Raises:
        InputError: `--out: cannot write …`; nothing half-written is left.
    """
    try:
        with replacing(path) as beside:
            yield beside
    except (OSError, ValueError) as error:
        raise InputError(f"{option}: cannot write {str(path)!r}: {reason(error)}") from None
