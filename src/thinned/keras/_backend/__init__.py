"""Each of Keras's backends has one file here, of which only the active one is imported.

Each offers the same verbs on its own tensors: `concrete` and `derive`, which turn a layer's state into a key;
`dropout`, `keep_mask`, `gaussian_dropout` and `attention`, which take that key.
TensorFlow's `attention` is None.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras

_NAME = keras.backend.backend()
if _NAME not in ("torch", "jax", "tensorflow"):
    raise ImportError(
        f"thinned.keras needs Keras's backend to be torch, jax or tensorflow, got {_NAME}: "
        "set KERAS_BACKEND before Keras is imported"
    )

active: Any = importlib.import_module(f"thinned.keras._backend.{_NAME}")
