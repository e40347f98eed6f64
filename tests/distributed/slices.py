"""Parts of tensors on all the meshes that the ranks can form, and what a part has to equal."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.distributed.tensor.debug import CommDebugMode

from thinned import Key

KEY = Key(3, 4)
R, S0, S1 = Replicate(), Shard(0), Shard(1)


def raises(kind, words, function, *args, **options):
    with pytest.raises(kind, match=words):
        function(*args, **options)


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layouts(*dims):
    """Meshes of one and of two axes, and all placements along the dimensions that may be divided."""
    world = dist.get_world_size()
    shards = [Shard(dim) for dim in dims]
    line = init_device_mesh("cpu", (world,))
    found = [(line, (one,)) for one in (R, *shards)]
    plane = init_device_mesh("cpu", (2, world // 2))
    return found + [(plane, (a, b)) for a in (R, *shards) for b in (R, *shards)]


def divided(whole, mesh, placements):
    """Without communication: every rank has the whole and takes its part."""
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)


def same(got, expected, mesh, placements):
    """Equal bits in this rank's part, and the placements asked for."""
    assert isinstance(got, DTensor)
    assert tuple(got.placements) == tuple(placements), got.placements
    assert got.shape == expected.shape
    part = divided(expected, mesh, placements).to_local()
    assert torch.equal(got.to_local(), part), f"{placements} on {tuple(mesh.shape)}"


def everywhere(function, *wholes, dims=(0, 1)):
    """The same on parts as on the whole, forward and backward, and no rank asks another."""
    expected = function(*wholes)
    upstream = values(*expected.shape, seed=9).to(expected.dtype)
    leaves = [whole.clone().requires_grad_() for whole in wholes]
    grads = torch.autograd.grad(function(*leaves), leaves, upstream)
    for mesh, placements in layouts(*dims):
        parts = [divided(whole, mesh, placements).requires_grad_() for whole in wholes]
        above = divided(upstream, mesh, placements)
        with CommDebugMode() as communication:
            result = function(*parts)
            result.backward(above)
        assert communication.get_total_counts() == 0, communication.get_comm_counts()
        same(result.detach(), expected, mesh, placements)
        for part, grad in zip(parts, grads, strict=True):
            same(part.grad, grad, mesh, placements)
