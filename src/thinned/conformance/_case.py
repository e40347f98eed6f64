"""Every cell makes the mask of this file, and reports it in one form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from thinned.contract import Key

# Rows for four shards of equal size, which is all that JAX takes; of columns no vector's width is a divisor.
SHAPE: Final = (1000, 77)
P: Final = 0.1
KEY: Final = Key(42, 7)

SHARDS: Final = (1, 2, 4)
MODES: Final = ("eager", "compiled")
DEVICES: Final = ("cpu", "gpu")

# Of the mask as bytes, 1 for kept, in C order. A test makes it by the contract's own formula.
EXPECTED: Final = "da6b8f828b07bb30970e604e063c4e303693c9dd0c072526e421ddc6529b01e6"


class NotRun(Exception):
    """Says why there is nothing in a cell."""


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix.

    Args:
        backend: what made the mask.
        device: "cpu" or "gpu".
        mode: "eager" or "compiled".
        shards: in how many parts it was made.
        digest: SHA-256 of the mask as bytes, 1 for kept, in C order; None where it was not made.
        reason: why it was not made; None where it was.

    Example:
        >>> Cell("NumPy", "gpu", "eager", 1, reason="NumPy has no devices").digest is None
        True
    """

    backend: str
    device: str
    mode: str
    shards: int
    digest: str | None = None
    reason: str | None = None


def digest(mask: Any) -> str:
    """SHA-256 of a mask as uint8, in C order."""
    kept = np.ascontiguousarray(mask, dtype=np.uint8)
    if kept.shape != SHAPE:
        raise ValueError(f"mask must be of shape {SHAPE}, got {kept.shape}")
    return hashlib.sha256(kept.data).hexdigest()


def parts(shards: int) -> list[range]:
    """Rows of the parts."""
    rows = SHAPE[0]
    return [range(rows * n // shards, rows * (n + 1) // shards) for n in range(shards)]
