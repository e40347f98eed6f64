"""Keras's backends differ in masks and noise of many keys at once, and in compilation.

Each offers `keys`, from int64 pairs to tensors; `dropout` and `normal` of many keys, and `single`, one of
them as `thinned.keras` takes it; `values` of variables, `look`, `quiet` and `compiled` for what runs; and
`BYTES`, what a mask takes besides its input, for each element.
"""

from __future__ import annotations

import importlib
from typing import Any

from thinned.keras._backend import _NAME

active: Any = importlib.import_module(f"{__name__}.{_NAME}")
