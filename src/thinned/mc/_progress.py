"""A progress bar is shown here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from thinned._installed import install

T = TypeVar("T")


def shown(parts: Iterable[T], show: bool, total: float | None = None) -> Iterable[T]:
    """The same parts, with a bar on the terminal if it is wanted.

    Raises:
        ModuleNotFoundError: `progress=True needs rich …`.
    """
    if not show:
        return parts
    progress = _rich()
    return progress.track(parts, "predict", total=total, console=_stderr())  # type: ignore[no-any-return]


@contextmanager
def ticking(show: bool, what: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    """Shows a bar and gives what moves it by one; the number of batches may be unknown.

    Raises:
        ModuleNotFoundError: `progress=True needs rich …`.
    """
    if not show:
        yield lambda: None
        return
    with _rich().Progress(console=_stderr(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _rich() -> Any:
    try:
        from rich import progress
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"progress=True needs rich, which is not installed: {install('mc')}; or leave it out"
        ) from error
    return progress


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)
