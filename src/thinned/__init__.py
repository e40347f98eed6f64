"""Dropout, exact and the same everywhere: a mask is a pure function of (seed, stream, position, p)."""

from thinned._kernel import get_num_threads, set_num_threads
from thinned._numpy import dropout, keep_mask
from thinned.contract import Key, scale, threshold

__version__ = "0.1.0"

__all__ = [
    "Key",
    "dropout",
    "get_num_threads",
    "keep_mask",
    "scale",
    "set_num_threads",
    "threshold",
]
