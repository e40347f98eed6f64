"""How a kernel walks over a tensor: the fewest dimensions that say where each element is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Size, and steps in the input, in the output, in positions, in keys, and in p.
Dimension = tuple[int, int, int, int, int, int]
_CONSECUTIVE = (1, 1, 1, 0, 0)
_SHARED = (1, 1, 0, 0, 0)  # one decision for a row


@dataclass(frozen=True)
class Layout:
    """Dimensions, outermost first, of which the last may be a row.

    Args:
        dimensions: all but the row; at least one.
        width: elements of a row, consecutive in input, output and mask, with one key and one p; 0 where there
            are none.
        shared: a row has one position, and so one decision.
    """

    dimensions: tuple[Dimension, ...]
    width: int
    shared: bool = False

    def turned(self, least: int) -> tuple[Layout, Dimension, Dimension] | None:
        """Other dimensions, that along which positions follow one another, and that of memory; or none.

        Args:
            least: a size of either below which a tile is mostly empty.
        """
        if self.width:
            return None
        wide = [d for d in self.dimensions if d[0] >= least and d[4:] == (0, 0)]
        down = next((d for d in wide if d[3] == 1), None)
        along = next((d for d in wide if d is not down and 1 in d[1:3]), None)
        if down is None or along is None:
            return None
        rest = tuple(d for d in self.dimensions if d is not down and d is not along)
        return Layout(rest or ((1, 0, 0, 0, 0, 0),), 0), down, along

    def columns(self) -> tuple[tuple[int, ...], ...]:
        """Sizes, and each kind of step, innermost dimension first."""
        return tuple(zip(*reversed(self.dimensions), strict=True))


def layout(dimensions: Iterable[Dimension], shortest_row: int) -> Layout:
    """Merge what is one dimension in all respects, and find the row.

    Args:
        dimensions: of any sizes but 0.
        shortest_row: a shorter one is none, unless it is all there is.

    Example:
        >>> layout([(4, 6, 6, 6, 0, 0), (6, 1, 1, 1, 0, 0)], 32)
        Layout(dimensions=((1, 0, 0, 0, 0, 0),), width=24, shared=False)
        >>> layout([(4, 8, 6, 100, 0, 1), (6, 1, 1, 1, 0, 0)], 1)
        Layout(dimensions=((4, 8, 6, 100, 0, 1),), width=6, shared=False)
    """
    # In the output's order, whatever the input's: what a warp writes is then one piece of memory.
    wanted = sorted((d for d in dimensions if d[0] > 1), key=lambda d: (-d[2], -d[1]))
    found: list[Dimension] = []
    for inner in wanted:
        if found and found[-1][1:] == tuple(inner[0] * step for step in inner[1:]):
            inner = (found.pop()[0] * inner[0], *inner[1:])
        found.append(inner)
    if found and found[-1][1:] == _SHARED and found[-1][0] >= shortest_row:
        return Layout(tuple(found[:-1]) or ((1, 0, 0, 0, 0, 0),), found[-1][0], True)
    last = found[-1] if found else (1, *_CONSECUTIVE)
    if last[1:] == _CONSECUTIVE and (len(found) < 2 or last[0] >= shortest_row):
        return Layout(tuple(found[:-1]) or ((1, 0, 0, 0, 0, 0),), last[0])
    return Layout(tuple(found), 0)
