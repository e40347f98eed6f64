"""This file says which inputs are computed together, so that no bit depends on how data were divided.

A matrix product rounds by its shape and by the place of a row, but not by what other rows hold. So all
chunks have one size, and input i is always in slot i mod size: whichever inputs share its chunk, its bits are
the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def chunks(numbers: Integers, size: int) -> Iterator[tuple[Integers, npt.NDArray[np.bool_]]]:
    """Divide inputs into chunks.

    Args:
        numbers: of the inputs in the whole, in any order; n that follow one another take ⌈n / size⌉ chunks.
        size: slots of a chunk.

    Yields:
        For each slot the place in `numbers` of an input, and whether it is the slot's own: an empty slot
        holds one of the others once more.
    """
    slots = numbers % size
    order = np.argsort(slots, kind="stable")
    starts = np.searchsorted(slots[order], slots[order])
    turn = np.empty_like(order)
    turn[order] = np.arange(len(order)) - starts  # how many of the slot came before
    for chunk in range(int(turn.max(initial=-1)) + 1):
        own = np.flatnonzero(turn == chunk)
        places = np.full(size, own[0])
        places[slots[own]] = own
        filled = np.zeros(size, np.bool_)
        filled[slots[own]] = True
        yield places, filled
