"""Weights of the fused recurrent kernels: dropped weights, in memory as cuDNN wants it."""

from __future__ import annotations

import torch
from torch import Tensor


def needs_chunk(weights: list[Tensor]) -> bool:
    """Whether these go to cuDNN, which copies, and warns, where they are not one piece of memory."""
    return weights[0].is_cuda and torch.backends.cudnn.is_acceptable(weights[0])


def in_one_chunk(weights: list[Tensor]) -> list[Tensor]:
    """The same weights, and the way back for their gradients, side by side in fresh memory.

    cuDNN has all matrices first, then all biases. The trained weights keep their own memory: an optimizer
    or a captured graph holds its address.
    """
    order = sorted(range(len(weights)), key=lambda i: weights[i].dim() == 1)
    chunk = torch.cat([weights[i].reshape(-1) for i in order])
    pieces = chunk.split([weights[i].numel() for i in order])
    placed = dict(zip(order, pieces, strict=True))
    return [placed[i].view(weight.shape) for i, weight in enumerate(weights)]
