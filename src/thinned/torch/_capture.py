"""While a CUDA graph is captured nothing may make the CPU wait for the device, or copy from its memory."""

from __future__ import annotations

import torch
from torch import Tensor


def capturing(tensor: Tensor) -> bool:
    """Tells whether the current stream's work, and so that on this tensor, goes into a graph."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def check(device: Tensor, name: str, small: Tensor, remedy: str) -> None:
    """Refuse a tensor that is to cross between the CPU and the device where a graph is captured.

    CUDA's own error names neither, and ends the capture with every tensor in it.

    Args:
        device: a tensor on the device.
        name: of the argument.
        small: what would cross.
        remedy: what to pass instead.

    Raises:
        RuntimeError: `a CUDA graph is captured, and … of shape … on … would have to be copied: …`.
    """
    if capturing(device):
        raise RuntimeError(
            f"a CUDA graph is captured, and {name} of shape {tuple(small.shape)} on {small.device} would "
            f"have to be copied: {remedy}"
        )
