"""Samples of a block of inputs are drawn here in chunks of one shape, which compile once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinned.contract import Key, UInt64s
from thinned.mc import _collect, _keys

# Inputs at a time where nothing else is said: with 100 samples to each, a batch of 6,400.
ROWS = 64


@dataclass(frozen=True)
class Size:
    """Samples and inputs of one chunk."""

    samples: int
    rows: int

    def fitting(self, used: int, memory: int) -> Size:
        """The chunk itself, or a smaller one if it takes too many bytes: fewer inputs, then fewer samples.

        Raises:
            ValueError: `memory=… bytes are too few: …`.
        """
        if used <= memory:
            return self
        if self == Size(1, 1):
            raise ValueError(f"memory={memory} bytes are too few: one sample of one input takes {used}")
        pairs = max(int(self.samples * self.rows * (memory / used)), 1)
        pairs = min(pairs, self.samples * self.rows - 1)
        return Size(min(self.samples, pairs), max(min(self.rows, pairs // self.samples), 1))


def as_numbers(leaf: Any) -> npt.NDArray[Any]:
    """An array of x's.

    Raises:
        TypeError: `x must hold numbers, got …`.
    """
    array = np.asarray(leaf)
    if array.dtype.kind in "OSUMm":
        raise TypeError(
            f"x must hold numbers, got {type(leaf).__name__} of {array.dtype}: pass "
            "x[columns].to_numpy(dtype=np.float32) of a data frame, and arrays of one shape and type"
        )
    return array


def rows_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """Tells how many inputs there are in arrays of these shapes.

    Raises:
        ValueError: `x must be an array, …`; `x's arrays differ in their first axis: …`; `x has no inputs`.
    """
    known = list(shapes)
    sizes = {shape[:1] for shape in known}
    if sizes <= {()}:
        raise ValueError(
            "x must be an array, or a structure of arrays, whose first axis is the batch's, got "
            f"{'numbers' if known else 'nothing'}: numpy.asarray makes an array of a list"
        )
    if len(sizes) != 1:
        raise ValueError(f"x's arrays differ in their first axis: they have shapes {known}")
    ((rows,),) = sizes
    if not rows:
        raise ValueError("x has no inputs")
    return int(rows)


def wanted(rows: int, samples: int, tolerance: float | None, batch_size: Any, memory: Any) -> Size:
    """The chunk that would be drawn if there were memory for it.

    Raises:
        TypeError: `batch_size must be an integer, got …`; `memory must be an integer, got …`.
        ValueError: `batch_size must be at least 1, got …`; `memory must be at least 1, got …`.
    """
    _collect.check_at_least_1("memory", memory)
    most = _collect.check_at_least_1("batch_size", ROWS if batch_size is None else batch_size)
    look = samples if tolerance is None else min(samples, _collect.LOOK)
    return Size(look, max(min(rows, most), 1))


@dataclass(frozen=True)
class Block:
    """Some inputs, of which samples are drawn.

    Attributes:
        rows: how many inputs.
        first: the first one's number.
        size: of a chunk; a block may be smaller, and is then filled up.
        run: from streams, uint64 of shape (size.samples, size.rows or 1), to outputs of shape
            (size.samples, size.rows, …).
    """

    rows: int
    first: int
    size: Size
    key: Key
    shared: bool
    run: Callable[[UInt64s], npt.NDArray[Any]]

    def __post_init__(self) -> None:
        _collect.check_last(self.first, self.rows)

    def draw(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Samples number first … stop − 1, shape (stop − first, rows, …)."""
        parts = []
        inputs = range(self.first, self.first + self.size.rows)
        for start in range(first, stop, self.size.samples):
            samples = range(start, start + self.size.samples)
            out = self.run(_keys.of_examples(self.key, samples, inputs, self.shared))
            parts.append(out[: stop - start, : self.rows])
        return np.concatenate(parts)


def filled(array: Any, first: int, stop: int, size: int) -> Any:
    """Inputs first … stop − 1, the last one repeated until there are so many."""
    return array[np.minimum(np.arange(first, first + size), stop - 1)]
