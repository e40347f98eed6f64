"""This backend makes a DTensor's mask, each rank in turn, in one process.

Nothing is sent, so no other process is needed: the process group that stands in for one throws away what it
is given.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from thinned.conformance._case import KEY, SHAPE, NotRun, P
from thinned.conformance._on_torch import lowered, where
from thinned.torch import _compat, functional


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    kind = where(device).type
    try:
        store = _compat.fake_store()
    except ImportError:
        raise NotRun("this PyTorch has no process group that stands in for one") from None
    found = []
    for rank in range(shards):
        dist.init_process_group("fake", rank=rank, world_size=shards, store=store)
        try:
            found.append(_part(kind, compiled, shards))
        finally:
            dist.destroy_process_group()
    return torch.cat(found).cpu().numpy()


def _part(kind: str, compiled: bool, shards: int) -> torch.Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh(kind, (shards,))
    whole = distribute_tensor(torch.ones(SHAPE, device=kind), mesh, [Shard(0)], src_data_rank=None)
    thin = lowered(lambda x: functional.dropout(x, P, True, key=KEY), compiled)
    kept: torch.Tensor = thin(whole).to_local() != 0  # type: ignore[attr-defined]
    return kept
