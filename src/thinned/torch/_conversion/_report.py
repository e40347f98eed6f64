"""A report says what was done to a model, what was left and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

import torch

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(frozen=True, eq=False, kw_only=True)
class Report(Generic[Model]):
    """The model, and by qualified name what was done; `str` of it is to be read.

    Attributes:
        model: the model itself, or its copy.
        left: what was not done, each with the reason and the remedy.
        possible: what may drop without a module of its own, each with where it was seen.
    """

    model: Model = field(repr=False)
    left: dict[str, str]
    possible: dict[str, str] = field(default_factory=dict)

    @property
    def suspects(self) -> dict[str, str]:
        """The name of `possible` until 0.1."""
        warnings.warn("report.suspects is now report.possible", DeprecationWarning, stacklevel=2)
        return self.possible

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        parts = {name: part for name, part in parts.items() if isinstance(part, dict)}
        for title in sorted(parts, key=lambda title: title in ("left", "possible")):
            if parts[title] or title not in ("left", "possible"):
                yield f"{title}: {len(parts[title])}"
            for name, what in parts[title].items():
                yield f"  {name}: {what}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Conversion(Report[Model]):
    """`swapped`: the class that each module now has; `proof`: how to know that nothing is missing here."""

    swapped: dict[str, str]
    proof: str = field(default="", repr=False)

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        if self.proof:
            yield self.proof


@dataclass(frozen=True, eq=False, kw_only=True)
class Removal(Report[Model]):
    """`removed`: what stood there."""

    removed: dict[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rescaling(Report[Model]):
    """`moved`: the weights that took each site's scale, and by what they were multiplied."""

    moved: dict[str, str]
