"""What the commands say, and where: results on stdout, progress on stderr, errors in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
            f'{package} is not installed, and this needs it: pip install "thinned[{name}]"'
        ) from None


@contextmanager
def wrong_arguments() -> Iterator[None]:
    """Turn what the library says of its arguments into an error of the command line (exit status 2)."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line why the file of --out cannot be written."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {str(path)!r}: {error.strerror}"
        raise click.BadParameter(reason, param_hint="'--out'") from None
