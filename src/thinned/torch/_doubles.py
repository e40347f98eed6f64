"""This file says where numbers in float64 are computed."""

from __future__ import annotations

from torch import Tensor

_WITH_DOUBLES = ("cpu", "cuda", "meta")


def double(small: Tensor) -> Tensor:
    """A tensor in float64: on the CPU where its own device may not know that type, as MPS and XPU do not."""
    return (small if small.device.type in _WITH_DOUBLES else small.cpu()).double()
