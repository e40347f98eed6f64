"""Autocast is kept out of products that are computed in float32 here, and their results get its dtype."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor


def result_type(input: Tensor) -> torch.dtype:
    """The dtype that torch's own products of this tensor have here."""
    device = input.device.type
    if input.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return input.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype


def off(input: Tensor) -> Any:
    """A context without: it would round what a custom function multiplies, and only in its forward pass."""
    device = input.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def now() -> list[Any]:
    """Returns for each type of device whether autocast is on, and its dtype."""
    devices = filter(torch.amp.is_autocast_available, ("cpu", "cuda"))
    return [(torch.is_autocast_enabled(one), torch.get_autocast_dtype(one)) for one in devices]
