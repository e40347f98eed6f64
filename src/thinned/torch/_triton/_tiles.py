"""Tiles, warps and stages of the attention kernels."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """Queries and keys of a tile, calls of the generator for a word, warps and stages of a program."""

    BM: int
    BN: int
    CALLS: int
    num_warps: int
    num_stages: int


def tile(kernel: str, width: int, itemsize: int) -> Tile:
    """What a kernel works with for heads up to a width, a power of two."""
    return _TILES[kernel, itemsize][max(width, 64)]


_TILES = {
    ("forward", 2): {
        64: Tile(128, 64, 4, 8, 2),
        128: Tile(128, 64, 4, 8, 2),
        256: Tile(64, 32, 2, 8, 2),
    },
    ("queries", 2): {
        64: Tile(64, 64, 4, 4, 2),
        128: Tile(64, 64, 2, 8, 2),
        256: Tile(64, 32, 2, 8, 1),
    },
    ("keys_and_values", 2): {
        64: Tile(32, 64, 2, 4, 2),
        128: Tile(32, 64, 2, 8, 2),
        256: Tile(32, 64, 2, 8, 1),
    },
    ("attn_masks", 2): {
        64: Tile(64, 64, 4, 4, 1),
        128: Tile(64, 64, 2, 8, 1),
        256: Tile(64, 64, 2, 8, 1),
    },
    ("forward", 4): {
        64: Tile(32, 32, 2, 4, 2),
        128: Tile(32, 32, 2, 8, 1),
        256: Tile(16, 32, 2, 8, 1),
    },
    ("queries", 4): {
        64: Tile(32, 32, 2, 8, 1),
        128: Tile(32, 32, 2, 8, 1),
        256: Tile(16, 32, 2, 8, 1),
    },
    ("keys_and_values", 4): {
        64: Tile(32, 32, 2, 8, 1),
        128: Tile(32, 32, 2, 8, 1),
        256: Tile(16, 32, 2, 8, 1),
    },
    ("attn_masks", 4): {
        64: Tile(32, 32, 2, 4, 1),
        128: Tile(32, 32, 2, 8, 1),
        256: Tile(16, 32, 2, 8, 1),
    },
}
