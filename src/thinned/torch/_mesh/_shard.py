"""A rank's part of a DTensor is located here, and the same part of other tensors is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Placement

Sizes = tuple[int, ...]


def local(tensor: Any) -> Tensor:
    """Return what this rank holds, by reference."""
    with torch.no_grad():
        part: Tensor = tensor.to_local()
    return part


def extent(
    shape: Sequence[int],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    placements: Sequence[Placement],
) -> tuple[Sizes, Sizes]:
    """Shape and first index of the part at a coordinate of a mesh.

    What torch's own `compute_local_shape_and_global_offset` returns, which lists the indices of each divided
    dimension in a tensor for it, at every call, and cannot do so while a compiler traces. A test holds the
    two together.
    """
    sizes, begins = list(shape), [0] * len(shape)
    for ranks, rank, placement in zip(mesh_shape, coordinate, placements, strict=True):
        if hasattr(placement, "split_factor"):
            raise ValueError(
                f"a DTensor placed by {placement} may hold more than one slice of the whole: "
                "redistribute it to Shard or Replicate"
            )
        if placement.is_shard():
            at: int = placement.dim  # type: ignore[attr-defined]
            chunk = -(-sizes[at] // ranks)
            # torch.sym_min: in LocalTensorMode a rank is a number for each of several.
            first = torch.sym_min(rank * chunk, sizes[at])
            begins[at] += first
            sizes[at] = torch.sym_min(chunk, sizes[at] - first)
    return tuple(sizes), tuple(begins)


def begin(tensor: DTensor) -> Sizes | None:
    """Index in the whole of the first element here; None on a rank outside the mesh.

    Raises:
        ValueError: where this rank's tensor does not have the shape that the placements say.
    """
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return None
    sizes, first = extent(tensor.shape, mesh.shape, coordinate, tensor.placements)
    here = tuple(local(tensor).shape)
    if here != sizes:
        raise ValueError(
            f"this rank holds shape {here} of a DTensor of shape {tuple(tensor.shape)} placed by "
            f"{tensor.placements}, which would be {sizes}: give DTensor.from_local the shape and stride of "
            "the whole, divided as torch.chunk divides"
        )
    return first


def same_part(tensor: Tensor, whole: Sequence[int], first: Sizes, sizes: Sequence[int]) -> Tensor:
    """Cut out of a tensor what a part of the whole needs; the tensor broadcasts to the whole.

    A plain tensor is the same on all ranks. A DTensor has to hold on this rank what this rank needs.

    Args:
        tensor: what stands beside the input, such as p.
        whole: shape of the whole.
        first: index at which the part begins.
        sizes: of the part.
    """
    if not tensor.dim():
        return local(tensor) if isinstance(tensor, DTensor) else tensor
    held = (begin(tensor) or (0,) * tensor.dim()) if isinstance(tensor, DTensor) else (0,) * tensor.dim()
    part = local(tensor) if isinstance(tensor, DTensor) else tensor
    for axis, (total, start, size) in enumerate(zip(whole, first, sizes, strict=True)):
        if tensor.shape[axis] == 1 and total != 1:
            continue
        offset = start - held[axis]
        if offset < 0 or offset + size > part.shape[axis]:
            raise ValueError(
                f"p of placements {tensor.placements} is not on the ranks that need it: "  # type: ignore[attr-defined]
                "replicate it, or place it as the input"
            )
        part = part.narrow(axis, offset, size)
    return part
