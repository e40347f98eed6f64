"""A tile of attention is described here: its scores, which of them are visible, and which are dropped.

Arrays are grouped by heads of key: query (B, K, G, T, H), key and value (B, K, S, H); what fits the scores is
(B, K, G, T, S), with 1 where it is shared. T and S are padded to whole tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.jax import _compat, _philox, _rate
from thinned.jax._primitive import keep_p

# Rows and columns of a tile. 8 heads of 4096 × 4096, 64 wide, on two cores: see docs/jax/attention.md.
ROWS, COLUMNS = 128, 128
_T, _S = 3, 4  # dimensions of the scores


class Spec(NamedTuple):
    """Holds what of attention is known when it is traced.

    Attributes:
        lengths: T and S before padding.
        tile: rows and columns of a tile.
        causal: a query sees no later key.
        window: how many keys a query sees before and behind its own; None: all.
        blind: the score of what may not be seen: −∞ gives zeros to a query that may look nowhere; a finite
            one the mean of all values, as Flax does.
        strides: positions of the mask from one score to the next, along each of B, N, T and S.
        batch: how many dimensions of examples with masks of their own stand before all operands.
        names: of the operands that may be missing.
    """

    lengths: tuple[Any, Any]
    tile: tuple[Any, Any]
    causal: bool
    window: tuple[int, int] | None
    blind: float
    strides: tuple[Any, ...]
    batch: int
    names: tuple[str, ...]


class Tile(NamedTuple):
    """A tile by its place: indices of its first row and column, and its sizes."""

    row: Any
    column: Any
    rows: Any
    columns: Any

    def of(self, array: Any, *dims: int) -> Any:
        """The tile's part of an array: its rows along the first of `dims`, its columns along the second."""
        for dim, first, size in zip(dims, (self.row, self.column), (self.rows, self.columns), strict=False):
            if dim is not None and array.shape[dim] != 1:
                array = lax.dynamic_slice_in_dim(array, first, size, dim)
        return array


def parts(lengths: tuple[Any, Any]) -> tuple[Any, Any]:
    """Rows and columns of the tiles: equal parts, so that as little as possible is padded.

    A length that has a name instead of a number, in a program for `jax.export`, is one tile.
    """
    return _part(lengths[0], ROWS), _part(lengths[1], COLUMNS)


def _part(length: Any, most: int) -> Any:
    return -(-length // -(-length // most)) if isinstance(length, int) and length else length


def tiles(spec: Spec) -> Any:
    """The numbers of all tiles that are not empty: int32, rows of tiles, and columns of tiles."""
    rows, columns = spec.tile
    if not all(isinstance(length, int) for length in spec.lengths):
        return np.zeros((1, 2), np.int32)
    down, along = (-(-length // size) for length, size in zip(spec.lengths, (rows, columns), strict=True))
    i, j = np.indices((down, along)).reshape(2, -1)
    seen = np.ones(i.shape, bool)
    if spec.blind == -np.inf:  # else a query that may look nowhere looks everywhere
        first, last = i * rows, (i + 1) * rows - 1
        if spec.causal:
            seen &= j * columns <= last
        if spec.window is not None:
            seen &= (j * columns <= last + spec.window[1]) & ((j + 1) * columns - 1 >= first - spec.window[0])
    return np.stack([i[seen], j[seen]], axis=-1).astype(np.int32)


def padded(array: Any, dim: int, size: Any) -> Any:
    """Adds zeros up to a whole number of parts of `size`; what is shared stays as it is."""
    length = array.shape[dim]
    if not isinstance(length, int) or (length == 1 and size != 1) or length % size == 0:
        return array
    widths = [(0, 0)] * array.ndim
    widths[dim] = (0, size - length % size)
    return jnp.pad(array, widths)


def visible(spec: Spec, tile: Tile, rest: dict[str, Any]) -> Any:
    """Return where a query may look; None if everywhere."""
    row = (tile.row + lax.iota(np.int32, tile.rows)).reshape(1, 1, 1, -1, 1)
    column = (tile.column + lax.iota(np.int32, tile.columns)).reshape(1, 1, 1, 1, -1)
    allowed = []
    if spec.causal:
        allowed.append(row >= column)
    if spec.window is not None:
        before, behind = spec.window
        allowed.append((row <= column + before) & (row >= column - behind))
    if "mask" in rest:
        allowed.append(tile.of(rest["mask"], _T, _S))
    for name, index in (("query_lengths", row), ("key_lengths", column)):
        if name in rest:
            allowed.append(index < rest[name].reshape(-1, 1, 1, 1, 1))
    return _all(allowed)


def inside(spec: Spec, tile: Tile) -> Any:
    """The columns that are no padding; None if all are."""
    length = spec.lengths[1]
    if not isinstance(length, int) or length % tile.columns == 0:
        return None
    return (tile.column + lax.iota(np.int32, tile.columns) < length).reshape(1, 1, 1, 1, -1)


def _all(allowed: list[Any]) -> Any:
    whole = None
    for one in allowed:
        whole = one if whole is None else whole & one
    return whole


def dropper(spec: Spec, tile: Tile, groups: int, rest: dict[str, Any], shape: Any) -> Callable[[Any], Any]:
    """The function that drops a tile's numbers by the mask, and scales the others."""
    batch, heads = shape[0], shape[1] * groups
    own = tuple(
        size if step else 1
        for size, step in zip((batch, heads, tile.rows, tile.columns), spec.strides, strict=True)
    )
    zero = jnp.zeros((), np.int32)
    start = _philox.moved(rest["start"], jnp.stack([zero, zero, tile.row, tile.column]))
    threshold = rest["threshold"]
    if threshold.ndim == 1:
        operands = _compat.varying_alike([rest["key"], threshold, start])
        keep = keep_p.bind(*operands, shape=own, strides=spec.strides).reshape(_in_groups(own, groups))
    else:  # a probability for each head, say
        threshold = tile.of(threshold, _T, _S)
        numbers = _philox.numbers(own, spec.strides, rest["key"], start)
        keep = _philox.at_least(numbers.reshape(_in_groups(own, groups)), threshold)

    def drop_and_scale(numbers: Any) -> Any:
        factor = _rate.scale(threshold, numbers.dtype)
        return jnp.where(keep, numbers * factor, _rate.dropped(threshold, numbers.dtype))

    return drop_and_scale


def _in_groups(shape: tuple[Any, ...], groups: int) -> tuple[Any, ...]:
    """(B, N, T, S) as (B, K, G, T, S)."""
    batch, heads, *rest = shape
    return (batch, 1, 1, *rest) if heads == 1 and groups != 1 else (batch, heads // groups, groups, *rest)
