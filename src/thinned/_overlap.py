"""This file tells whether two elements of an array share memory, from its shape and strides alone."""

from __future__ import annotations

from collections.abc import Sequence

# Steps of the search below: people's layouts take fewer than ten, but in general it is a knapsack problem.
_PATIENCE = 10_000


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], item: int = 1) -> bool:
    """Tells whether a pass that writes to such an array could write to one place twice.

    Args:
        shape: the array's.
        strides: from one element to the next along each dimension, of any sign.
        item: size of an element in the unit of the strides: 1 where they count elements.

    Returns:
        False where no two elements share memory. True where two do, and where the search for two of them was
        given up: an array is then refused that may be good, and none is accepted that is bad.

    Example:
        >>> overlaps_itself((4, 3), (1, 1)), overlaps_itself((4, 3), (1, 4))
        (True, False)
    """
    if not all(shape):
        return False
    dims = sorted((abs(step), size) for size, step in zip(shape, strides, strict=True) if size > 1)
    # How far apart, at most, two elements lie that differ along the first k dimensions only.
    reach = [item - 1]
    nested = True
    for step, size in dims:
        nested &= step > reach[-1]
        reach.append(reach[-1] + step * (size - 1))
    return not nested and _meets(dims, reach)


def _meets(dims: list[tuple[int, int]], reach: list[int]) -> bool:
    """Tells whether some difference of two indices, not zero, leads to less than an item from where it began.

    A depth-first search from the longest stride to the shortest, that follows a distance only while the
    dimensions still to come can make up for it.
    """
    steps = _PATIENCE
    waiting = [(len(dims), 0, False)]  # dimensions still to come, distance so far, whether the indices differ
    while waiting:
        left, distance, differ = waiting.pop()
        if left == 0:
            if differ:
                return True
            continue
        step, size = dims[left - 1]
        # Of a difference and its opposite one is enough: the first that is not zero is taken positive.
        lowest = 1 - size if differ else 0
        if step:
            lowest = max(lowest, -((reach[left - 1] + distance) // step))
            highest = min(size - 1, (reach[left - 1] - distance) // step)
        else:
            highest = size - 1
        steps -= max(highest - lowest + 1, 1)
        if steps < 0:
            return True
        waiting += [(left - 1, distance + k * step, differ or k != 0) for k in range(lowest, highest + 1)]
    return False
