"""This file lists every mask of a few units, with its probability."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from thinned._arguments import check_mode
from thinned.contract import Bools, check_integer, check_probability

Doubles = npt.NDArray[np.float64]
Mode = Literal["inverted", "classic"]

MAX_UNITS: Final = 20  # 2^20 masks: 0.1 to 3 s for a layer, and each unit more doubles it
_CHUNK: Final = 4096


class Units(NamedTuple):
    """Per unit, each of shape (n,): drop probability, factor where kept, and the factor's expectation."""

    p: Doubles
    factor: Doubles
    expected: Doubles


def masks(n: int, p: Any, *, chunk: int = _CHUNK) -> Iterator[tuple[Bools, Doubles]]:
    """Every mask of n units with its probability, a chunk at a time.

    A unit whose p is 0 or 1 has only one state: it costs nothing and does not count.

    Args:
        n: units, at least 0.
        p: drop probability in [0, 1], one number or one a unit.
        chunk: most masks at a time, at least 1.

    Yields:
        Masks, bool of shape (b, n), True where kept, and their probabilities, float64 of shape (b,), all
        above 0. Unit 0 changes fastest: the first mask keeps none of the units that can be dropped.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `p must be one number or one for each of … units, got
            shape …`; `chunk must be at least 1, got …`; `24 units have 2^24 masks, and at most 20 units are
            enumerated: …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 1: n units are 2^n thinned networks.

    Example:
        >>> for keep, probability in masks(2, [0.5, 0.25]):
        ...     print(keep.astype(int).tolist(), probability.tolist())
        [[0, 0], [1, 0], [0, 1], [1, 1]] [0.125, 0.125, 0.375, 0.375]
    """
    return every(check_p(n, p), check_chunk(chunk))


def every(p: Doubles, chunk: int) -> Iterator[tuple[Bools, Doubles]]:
    """`masks` of checked arguments; too many units are refused before anything runs."""
    check_few(p)
    return _chunks(p, chunk)


def _chunks(p: Doubles, chunk: int) -> Iterator[tuple[Bools, Doubles]]:
    free = np.flatnonzero(undecided(p))
    dropped, shifts = p[free], np.arange(free.size)
    for first in range(0, 1 << free.size, chunk):
        index = np.arange(first, min(first + chunk, 1 << free.size))
        bits = (index[:, np.newaxis] >> shifts & 1).astype(np.bool_)
        keep = np.repeat(p[np.newaxis] < 1, index.size, axis=0)
        keep[:, free] = bits
        yield keep, np.where(bits, 1 - dropped, dropped).prod(axis=1)


def undecided(p: Doubles) -> Bools:
    """The units that are neither always kept nor always dropped."""
    free: Bools = (p > 0) & (p < 1)
    return free


def check_p(n: Any, p: Any) -> Doubles:
    """Checks that there is one drop probability for each unit."""
    units = _at_least("n", n, 0)
    if np.ndim(p) == 0:
        found = np.full(units, check_probability(p))
    else:
        found = np.array([check_probability(one) for one in p], dtype=np.float64)
        if found.shape != (units,):
            raise ValueError(
                f"p must be one number or one for each of {units} units, got shape {found.shape}"
            )
    return found


def check_few(p: Doubles) -> None:
    """Tells whether the masks of these units can be enumerated."""
    free = int(undecided(p).sum())
    if free > MAX_UNITS:
        raise ValueError(
            f"{free} units have 2^{free} masks, and at most {MAX_UNITS} units are enumerated: "
            "draw masks at random instead (Monte Carlo)"
        )


def check_units(n: Any, p: Any, mode: Any) -> Units:
    """Check each unit's dropout. Realised rates are within 2^-33 of p; here p is taken as it is."""
    inverted, rates = check_mode(mode), check_p(n, p)
    kept = 1 - rates
    if not inverted:
        return Units(rates, np.ones_like(rates), kept)
    some = kept > 0  # where nothing is kept the factor is 0, as that of `thinned.scale`
    return Units(rates, np.divide(1, kept, out=np.zeros_like(kept), where=some), some.astype(np.float64))


def check_chunk(chunk: Any) -> int:
    """Tells how many masks at a time."""
    return _at_least("chunk", chunk, 1)


def _at_least(name: str, value: Any, least: int) -> int:
    number = check_integer(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
