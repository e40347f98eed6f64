"""This backend makes the mask with JAX, of an array that is divided over a mesh."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import thinned.jax
from thinned.conformance._case import KEY, SHAPE, NotRun, P


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    try:
        devices = jax.devices(device)
    except RuntimeError:
        raise NotRun("no GPU here") from None
    if len(devices) < shards:
        raise NotRun(f"{len(devices)} of {shards} devices here")
    sharding = NamedSharding(Mesh(np.array(devices[:shards]), ("rows",)), PartitionSpec("rows"))
    ones = jax.device_put(np.ones(SHAPE, np.float32), sharding)

    def thin(x: Any) -> Any:
        return thinned.jax.dropout(x, P, key=KEY, training=True)

    return np.asarray((jax.jit(thin) if compiled else thin)(ones)) != 0
