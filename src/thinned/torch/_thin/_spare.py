"""The memory of a weight's dense gradient, used again once nobody holds the gradient of the step before.

A gradient of 4 MiB in fresh memory is a thousand page faults. Where a step frees all gradients at once, they
took a third of a step of the dropout paper's network.
"""

from __future__ import annotations

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

    def __init__(self, like: Tensor) -> None:
        self.tensor = torch.empty(like.shape, dtype=like.dtype, device="cpu")
        self._owners = self._count()

    def _count(self) -> tuple[float, int]:
        """How many have the memory: tensors and storages, and names of the one storage that Python has."""
        storage = self.tensor.untyped_storage()
        return _compat.owners_of_memory(_compat.storage_number(storage)), sys.getrefcount(storage)

    def is_free(self, like: Tensor) -> bool:
        """Whether nobody else holds it, in this process or in another, and it is as it was made."""
        if self._owners != self._count():
            return False
        storage = self.tensor.untyped_storage()
        same = self.tensor.shape == like.shape and self.tensor.dtype == like.dtype
        return same and storage.nbytes() == like.nbytes and not storage.is_shared()

    def __reduce__(self) -> tuple[Any, ...]:
        """It is not saved with a weight; what is in its place loads with weights_only=True too."""
        return OrderedDict, ()


def memory_for(weight: Tensor) -> Tensor:
    """Memory for a weight's gradient on the CPU: that of its last one where nobody has it any more."""
    if not weight.is_leaf or weight.nbytes < _LEAST:
        return torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    memory = vars(weight).pop(_NAME, None)  # of two threads one has it
    if not isinstance(memory, _Memory) or not memory.is_free(weight):
        memory = _Memory(weight)
    setattr(weight, _NAME, memory)
    fresh: Tensor = memory.tensor.detach()
    return fresh


def forget(weight: Tensor) -> None:
    """Give the memory back."""
    vars(weight).pop(_NAME, None)
