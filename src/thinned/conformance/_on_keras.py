"""This backend makes the mask with Keras's functions, on the backend of the process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import keras

import thinned.keras
from thinned.conformance._case import KEY, SHAPE, NotRun, P

# As `Model.compile(jit_compile=True)` lowers a step.
_COMPILERS: Final[dict[str, Callable[[Any, Callable[..., Any]], Callable[..., Any]]]] = {
    "torch": lambda torch, function: torch.compile(function),
    "jax": lambda jax, function: jax.jit(function),
    "tensorflow": lambda tensorflow, function: tensorflow.function(function, jit_compile=True),
}


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device != "cpu":
        raise NotRun("Keras runs where its backend does, whose row this is")
    if shards > 1:
        raise NotRun("Keras leaves arrays in parts to its backend, whose row this is")

    def thin(x: Any) -> Any:
        return thinned.keras.dropout(x, P, key=KEY, training=True)

    backend = keras.config.backend()
    call = _COMPILERS[backend](importlib.import_module(backend), thin) if compiled else thin
    return keras.ops.convert_to_numpy(call(keras.ops.ones(SHAPE))) != 0
