"""Batches of inputs become a prediction here: samples are drawn, and their statistics kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from thinned.contract import check_integer
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import (
    Outputs,
    Statistics,
    as_outputs,
    check_outputs,
    doubt,
    error_of_mean,
    summarise,
)

# Samples between two looks at the standard error: fixed, so that where a run stops depends on nothing else.
LOOK = 10

# Of sites that drew, where all samples are equal nevertheless.
WITHOUT_EFFECT = "what they drop does not reach the output, or changes nothing there"


class SilentError(RuntimeError):
    """All samples of all inputs are equal: no site of the model dropped anything that its output shows.

    Example:
        >>> import torch
        >>> from thinned import mc
        >>> try:
        ...     mc.predict(torch.nn.Linear(2, 2), torch.ones(1, 2))
        ... except mc.SilentError as error:
        ...     print(str(error)[:62])
        all samples of all inputs are equal: Linear has nothing that d
    """


class Batch(Protocol):
    """Some inputs of which a framework can draw samples."""

    @property
    def rows(self) -> int:
        """Tells how many inputs."""

    def draw(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Samples number first … stop − 1, shape (stop − first, rows, …)."""


def check_samples(samples: Any, tolerance: Any) -> None:
    """Refuse what no spread can be seen with."""
    if check_integer("samples", samples) < 2:
        raise ValueError(f"samples must be at least 2, got {samples}: one sample shows no spread")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")


def check_at_least_1(name: str, value: Any) -> int:
    """A positive integer."""
    if (number := check_integer(name, value)) < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_first(value: Any) -> int:
    """The number of an input, from which those after it count."""
    if not 0 <= (number := check_integer("first", value)) < 2**60:
        raise ValueError(f"first must be in [0, 2^60), got {number}: it is the number of x's first input")
    return number


def check_last(first: int, rows: int) -> None:
    """Inputs are numbered below 2^60."""
    if first + rows > 2**60:
        raise ValueError(
            f"first={first} leaves numbers for {2**60 - first} inputs below 2^60, got {rows}: begin lower"
        )


def collect(
    batches: Iterable[Batch],
    *,
    samples: int,
    tolerance: float | None,
    outputs: Outputs | None,
    keep: bool,
    silent: Callable[[], str],
) -> Prediction:
    """Draw, and put the batches' statistics together.

    Raises:
        SilentError: what `silent` says, if there is no spread in any output of any input.
        ValueError: `x has no inputs`.

    Warns:
        UserWarning: `outputs` was not given, and the outputs may be classes.
    """
    kind = check_outputs(outputs)
    found = together(batches, samples=samples, tolerance=tolerance, outputs=kind, keep=keep)
    if not found.std.any():
        raise SilentError(silent())
    if outputs is None:
        doubt(found.mean, stacklevel=3)  # who called predict
    return found


def together(
    batches: Iterable[Batch], *, samples: int, tolerance: float | None, outputs: Outputs, keep: bool = False
) -> Prediction:
    """The same for a part of the inputs, which may well have no spread."""
    parts = [_one(batch, samples, tolerance, outputs, keep) for batch in batches]
    if not parts:
        raise ValueError("x has no inputs")
    return Prediction(
        **_joined([part[0] for part in parts]),
        standard_error=Statistics(**_joined([part[1] for part in parts])),
        samples=np.concatenate([part[2] for part in parts]),
        draws=_padded([draws for *_, draws in parts if draws is not None]) if keep else None,
    )


def _one(
    batch: Batch, samples: int, tolerance: float | None, outputs: Outputs, keep: bool
) -> tuple[Statistics, Statistics, npt.NDArray[np.int64], npt.NDArray[Any] | None]:
    """Statistics of one batch, their errors, and how many samples each input had."""
    if tolerance is None:
        draws = as_outputs(batch.draw(0, samples), outputs)
        return *summarise(draws, outputs), np.full(batch.rows, samples), draws if keep else None
    draws, counts = _until(batch, samples, tolerance, outputs)
    found: list[tuple[Statistics, Statistics]] = []
    for row, count in enumerate(counts):
        found.append(summarise(draws[:count, row : row + 1], outputs))
        draws[count:, row] = np.nan
    values = Statistics(**_joined([value for value, _ in found]))
    return values, Statistics(**_joined([error for _, error in found])), counts, draws if keep else None


def _until(
    batch: Batch, samples: int, tolerance: float, outputs: Outputs
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Draw until the mean of every input of the batch is known so well, each at a number of its own."""
    counts = np.full(batch.rows, samples)
    draws = as_outputs(batch.draw(0, min(LOOK, samples)), outputs)
    open_ = np.ones(batch.rows, np.bool_)
    while len(draws) < samples:
        errors = error_of_mean(draws).reshape(batch.rows, -1).max(axis=1)
        counts[open_ & (errors <= tolerance)] = len(draws)
        open_ &= ~(errors <= tolerance)  # what is not a number is never known
        if not open_.any():
            break
        more = batch.draw(len(draws), min(len(draws) + LOOK, samples))
        draws = np.concatenate([draws, as_outputs(more, outputs)])
    return draws, counts


def _joined(parts: list[Statistics]) -> dict[str, Any]:
    if len(parts) == 1:
        return dict(vars(parts[0]))
    found = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Statistics)}
    return {name: None if values[0] is None else np.concatenate(values) for name, values in found.items()}


def _padded(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    most = max(len(part) for part in parts)
    return np.concatenate([_longer(part, most) for part in parts], axis=1)


def _longer(part: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    rest = np.full((most - len(part), *part.shape[1:]), np.nan, part.dtype)
    return np.concatenate([part, rest]) if len(rest) else part


def split(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most so many rows, as even as can be."""
    if not rows:
        return
    count = -(-rows // most)
    edges = [rows * part // count for part in range(count + 1)]
    yield from itertools.pairwise(edges)
