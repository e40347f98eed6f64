"""The native library's operators are loaded here."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import tensorflow as tf

from thinned import _kernel


def operators() -> Any:
    """The module of generated operators; None where there is no native kernel, or it is not in use."""
    return None if _kernel.path() == _kernel.REFERENCE else _load()


@functools.cache
def _load() -> Any:
    from thinned import _native

    file = Path(_native.__file__).parent / "_operators" / "tensorflow.so"
    if not file.exists():
        return None
    # Registered in this process for good: a second load would be refused, hence the cache.
    found = tf.load_op_library(str(file))
    use = ctypes.CDLL(str(file)).thinned_tensorflow_use
    use.argtypes = [ctypes.c_void_p, ctypes.c_int]
    registered = use(_native.foreign(), tf.config.threading.get_intra_op_parallelism_threads())
    return found if registered else None
