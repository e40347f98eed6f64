"""This backend makes the mask with NumPy, part by part."""

from __future__ import annotations

from typing import Any

import numpy as np

import thinned
from thinned.conformance._case import KEY, SHAPE, NotRun, P, parts


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device != "cpu" or compiled:
        raise NotRun("NumPy has no devices" if device != "cpu" else "NumPy has no compiler")
    return np.concatenate(
        [
            thinned.keep_mask((len(rows), SHAPE[1]), P, key=KEY, global_shape=SHAPE, start=(rows.start, 0))
            for rows in parts(shards)
        ]
    )
