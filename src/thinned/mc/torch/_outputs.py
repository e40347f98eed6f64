"""What a model returns, and the tensor that is meant."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def meant(result: Any) -> Tensor:
    """The tensor that a model means: its `logits` where it has them, else the first of several.

    Raises:
        TypeError: `the model must return a tensor, …, got …`.
    """
    if isinstance(result, dict):
        result = result.get("logits", result)
    elif not isinstance(result, (Tensor, tuple, list)):
        result = getattr(result, "logits", result)
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    if not isinstance(result, Tensor):
        raise TypeError(
            f"the model must return a tensor, a tuple that begins with one, or something with logits, got "
            f"{type(result).__name__}: wrap it in a module that returns the outputs"
        )
    return result


def of_one(result: Any, batch_dim: int) -> Tensor:
    """The tensor that a model means for one input.

    Raises:
        ValueError: `the model must return one output for each input …`.
    """
    found = meant(result)
    if found.dim() <= batch_dim or found.shape[batch_dim] != 1:
        raise ValueError(
            f"the model must return one output for each input along dimension {batch_dim}, got shape "
            f"{tuple(found.shape)} for one input"
        )
    return found


def as_array(out: Tensor) -> npt.NDArray[Any]:
    """In NumPy, which has no bfloat16."""
    return (out.float() if out.dtype == torch.bfloat16 else out).cpu().numpy()
