"""The memory of a weight's dense gradient, used again once nobody holds the gradient of the step before.

A gradient of 4 MiB in fresh memory is a thousand page faults. Where a step frees all gradients at once, they
took a third of a step of the dropout paper's network.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat

# The weight holds it: with a dictionary of weak references torch.utils.swap_tensors would refuse the weight.
_NAME = "_thinned_memory"
_LEAST = 1 << 17  # bytes; smaller memory comes from the allocator's own lists


class _Memory:
    """A tensor, and how many had its memory when nobody else did."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._tensor = torch.empty(shape, dtype=dtype, device="cpu")
        self._bytes = self._tensor.nbytes
        self._owners = _owners(self._tensor)

    def is_as_made(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        """Whether it is of this kind, and neither resized nor open to another process."""
        tensor: Tensor | None = vars(self).get("_tensor")
        if tensor is None:  # another thread looks at it
            return True
        storage = tensor.untyped_storage()
        same = tuple(tensor.shape) == shape and tensor.dtype == dtype
        return same and storage.nbytes() == self._bytes and not storage.is_shared()

    def take(self) -> Tensor | None:
        """A tensor in this memory; None where somebody has one already."""
        tensor: Tensor | None = vars(self).pop("_tensor", None)  # of two threads one has it
        if tensor is None:
            return None
        taken = tensor.detach() if _owners(tensor) == self._owners else None
        self._tensor = tensor  # last: by now another thread finds it taken
        return taken

    def __reduce__(self) -> tuple[Any, ...]:
        """It is not saved with a weight; what is in its place loads with weights_only=True too."""
        return OrderedDict, ()


def _owners(tensor: Tensor) -> tuple[float, int]:
    """How many have a tensor's memory: tensors and storages, and names of the one storage that Python has."""
    storage = tensor.untyped_storage()
    return _compat.owners_of_memory(_compat.storage_number(storage)), sys.getrefcount(storage)


def memory_for(weight: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory on the CPU for a gradient: that of the weight's last one where nobody has it any more.

    While somebody has it, as where gradients add up, memory comes from the allocator and is not kept: a
    weight has one gradient's memory beside that which its user holds, and never two.

    Args:
        weight: holds the memory; None where none is kept.
        shape: of the gradient: that which the weight had in the forward pass.
        dtype: likewise.
    """
    if (
        weight is None
        or not weight.is_leaf
        or math.prod(shape) * dtype.itemsize < _LEAST
        or torch.is_inference_mode_enabled()  # what is made in it can not be written outside
    ):
        return torch.empty(shape, dtype=dtype, device="cpu")
    memory = vars(weight).get(_NAME)
    if not isinstance(memory, _Memory) or not memory.is_as_made(shape, dtype):
        memory = _Memory(shape, dtype)
        taken = memory.take()
        if taken is not None:  # None where torch does not tell who has it
            setattr(weight, _NAME, memory)
    else:
        taken = memory.take()
    return torch.empty(shape, dtype=dtype, device="cpu") if taken is None else taken


def forget(weight: Tensor) -> None:
    """Give the memory back."""
    vars(weight).pop(_NAME, None)
