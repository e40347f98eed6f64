"""This file has what differs between NumPy arrays and torch tensors. It never imports torch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def as_input(x: Any, name: str) -> Any:
    """A floating tensor as it is; anything else as an array of doubles."""
    if is_tensor(x):
        if not x.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}: pass {name}.double()")
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
    return array.astype(np.float64)


def is_tensor(x: Any) -> bool:
    """Tells whether x is torch's; it cannot be if nothing has loaded torch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def namespace(x: Any) -> Any:
    """The module whose functions take x."""
    return sys.modules["torch"] if is_tensor(x) else np


def like(values: Any, x: Any) -> Any:
    """A NumPy array as what x is: of its dtype and on its device, a bool one staying bool."""
    if not is_tensor(x):
        return values
    tensor = namespace(x).from_numpy(np.ascontiguousarray(values)).to(x.device)
    return tensor if values.dtype == np.bool_ else tensor.to(x.dtype)


def widen(values: Any) -> Any:
    """Return what a function returned, in double."""
    return values.double() if is_tensor(values) else np.asarray(values, dtype=np.float64)
