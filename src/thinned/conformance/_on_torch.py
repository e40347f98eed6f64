"""These backends make the mask with PyTorch: part by part, of a DTensor, and by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from thinned._position import positions
from thinned.conformance._case import KEY, SHAPE, NotRun, P, parts
from thinned.torch import _compat, _key, functional


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    found = []
    for rows in parts(shards):
        thin = lowered(
            lambda x, first=rows.start: functional.dropout(
                x, P, True, key=KEY, global_shape=SHAPE, start=(first, 0)
            ),
            compiled,
        )
        found.append(thin(torch.ones(len(rows), SHAPE[1], device=where(device))) != 0)
    return torch.cat(found).cpu().numpy()


def where(device: str) -> torch.device:
    """This machine's device of a kind."""
    if device == "gpu" and not torch.cuda.is_available():
        raise NotRun("no GPU here")
    return torch.device("cuda" if device == "gpu" else "cpu")


def lowered(function: Callable[..., Tensor], compiled: bool) -> Callable[..., Tensor]:
    """The function, by torch.compile if asked for."""
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True) if compiled else function


def mask_of_dtensor(device: str, compiled: bool, shards: int) -> Any:
    """True where kept, each rank in turn, in one process.

    Nothing is sent, so no other process is needed: the process group that stands in for one throws away what
    it is given.
    """
    kind = where(device).type
    try:
        store = _compat.fake_store()
    except ImportError:
        raise NotRun("this PyTorch has no process group that stands in for one") from None
    found = []
    for rank in range(shards):
        dist.init_process_group("fake", rank=rank, world_size=shards, store=store)
        try:
            found.append(_own_part(kind, compiled, shards))
        finally:
            dist.destroy_process_group()
    return torch.cat(found).cpu().numpy()


def _own_part(kind: str, compiled: bool, shards: int) -> torch.Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh(kind, (shards,))
    whole = distribute_tensor(torch.ones(SHAPE, device=kind), mesh, [Shard(0)], src_data_rank=None)
    thin = lowered(lambda x: functional.dropout(x, P, True, key=KEY), compiled)
    kept: torch.Tensor = thin(whole).to_local() != 0  # type: ignore[attr-defined]
    return kept


def mask_by_triton(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device == "gpu":
        raise NotRun("the interpreter is for CPUs; on a GPU this is PyTorch's row")
    if compiled:
        raise NotRun("torch.compile would not meet the interpreter")
    from thinned.torch._triton import _launch

    key, rate = _key.key_to_tensor(KEY), torch.tensor(P, dtype=torch.float64)
    found = []
    for rows in parts(shards):
        x = torch.ones(len(rows), SHAPE[1])
        base, strides = positions(tuple(x.shape), None, SHAPE, (rows.start, 0))
        found.append(_launch.dropout(x, torch.empty_like(x), key, rate, True, base, strides) != 0)
    return torch.cat(found).numpy()
