"""Tensors that meet a DTensor in torch's operators are placed here so that no data move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._position import row_major
from thinned.torch._mesh._detection import is_dtensor


def ones(input: Tensor, sizes: Sequence[int]) -> Tensor:
    """Ones of a shape that broadcasts to the input's, divided as it is: a rank makes its own alone."""
    if not is_dtensor(input):
        return torch.ones(sizes, device=input.device)
    from torch.distributed.tensor import DTensor

    whole: Any = input
    # Not by way of torch.distributed.tensor.ones, which no compiler can trace.
    pairs = zip(sizes, whole.shape, whole.to_local().shape, strict=True)
    here = [part if size == total else size for size, total, part in pairs]
    return DTensor.from_local(
        torch.ones(here, device=whole.to_local().device),
        whole.device_mesh,
        _placements(input, sizes),
        run_check=False,
        shape=torch.Size(sizes),
        stride=row_major(tuple(sizes)),
    )


def beside(input: Tensor, made: Tensor, divided: bool = True) -> Tensor:
    """A plain tensor, the same on all ranks, as a DTensor on the input's mesh, if the input is one.

    Args:
        input: a tensor of any kind.
        made: any; divided as the input is where it has as many dimensions, replicated elsewhere.
        divided: whether to divide at all.
    """
    if not is_dtensor(input) or is_dtensor(made):
        return made
    from torch.distributed.tensor import DTensor, Replicate

    whole: Any = input
    mesh = whole.device_mesh
    replicated = DTensor.from_local(made, mesh, [Replicate()] * mesh.ndim, run_check=False)
    if not divided or made.dim() != input.dim():
        return replicated
    return replicated.redistribute(
        placements=_placements(input, made.shape)
    )  # a slice of it: nothing is sent


def _placements(input: Any, sizes: Sequence[int]) -> list[Any]:
    """The input's where it is divided along a dimension that the sizes have too; replicated elsewhere."""
    from torch.distributed.tensor import Replicate

    return [
        placement
        if placement.is_shard() and sizes[placement.dim] == input.shape[placement.dim]
        else Replicate()
        for placement in input.placements
    ]
