"""A bar for those who wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def shown(parts: Iterable[T], show: bool, total: float | None = None) -> Iterable[T]:
    """The same parts, with a bar on the terminal if it is wanted.

    Raises:
        ModuleNotFoundError: `progress=True needs rich …`.
    """
    if not show:
        return parts
    try:
        from rich.console import Console
        from rich.progress import track
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "progress=True needs rich, which is not installed: pip install 'thinned[mc]', or leave it out"
        ) from error
    return track(parts, description="predict", total=total, console=Console(stderr=True))
