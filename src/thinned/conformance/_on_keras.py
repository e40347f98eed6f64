"""The mask by Keras's functions, on the backend that the process has."""

from __future__ import annotations

from typing import Any

import keras

import thinned.keras
from thinned.conformance._case import KEY, SHAPE, NotRun, P


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device != "cpu" or compiled or shards > 1:
        raise NotRun("Keras runs on its backend, whose row this is")
    return (
        keras.ops.convert_to_numpy(thinned.keras.dropout(keras.ops.ones(SHAPE), P, key=KEY, training=True))
        != 0
    )
