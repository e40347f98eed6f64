"""This package computes dropout whose mask is a pure function of (seed, stream, position, p)."""

# `contract` is the definition, `_numpy` the NumPy front end, `_kernel` chooses the code that computes.
# The frameworks' front ends, libraries of layers and tools are packages beside them, loaded when imported.

from typing import Any

from thinned._kernel import get_num_threads, set_num_threads
from thinned._numpy import dropout, keep_mask
from thinned.contract import Key, scale, threshold

__all__ = [
    "Key",
    "dropout",
    "get_num_threads",
    "keep_mask",
    "scale",
    "set_num_threads",
    "threshold",
]


def __getattr__(name: str) -> Any:
    """`__version__`, read from the installed package when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module 'thinned' has no attribute {name!r}")
    from importlib.metadata import version

    return version("thinned")


def __dir__() -> list[str]:
    return sorted(__all__)
