"""Sequence parallelism: between the linear maps each rank has some of the positions of every sequence.

    torchrun --standalone --nproc-per-node 4 examples/sequence_parallel.py

First with DTensor, which knows what part it is; then with plain tensors, which have to be told by
`global_shape` and `start`. Sequences need not divide evenly.
"""

import copy

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

import thinned
from thinned.torch import functional, keyed, nn, set_step

LENGTH = 10


class Branch(torch.nn.Module):
    """A transformer's feed-forward branch with its norm, dropout and residual."""

    def __init__(self, width: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.up, self.down = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)
        self.drop_hidden, self.drop_output = nn.Dropout(0.5), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, L, width) to the same."""
        branch = self.down(self.drop_hidden(torch.relu(self.up(self.norm(x)))))
        return x + self.drop_output(branch)


PLAN = {
    "norm": SequenceParallel(use_local_output=False),
    "up": ColwiseParallel(input_layouts=Shard(1), use_local_output=False),
    "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    "drop_output": SequenceParallel(use_local_output=False),
}


def with_dtensors(mesh: torch.distributed.device_mesh.DeviceMesh) -> None:
    """Units are divided within the branch, positions outside of it: each mask is divided as its input is."""
    torch.manual_seed(0)
    alone, x = keyed(Branch(), seed=1), torch.randn(4, LENGTH, 16)
    together = parallelize_module(copy.deepcopy(alone), mesh, PLAN)
    for step in range(3):
        expected = set_step(alone, step)(x)
        got = set_step(together, step)(distribute_tensor(x, mesh, [Shard(1)], src_data_rank=None))
        torch.testing.assert_close(got.full_tensor(), expected)


def with_plain_tensors() -> None:
    """The same of tensors that know nothing of each other."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    x, key = torch.randn(4, LENGTH, 16), thinned.Key(1).fold("output").fold(0)
    whole = functional.dropout(x, 0.1, training=True, key=key)

    positions = range(LENGTH * rank // world, LENGTH * (rank + 1) // world)
    mine = x[:, positions.start : positions.stop]
    got = functional.dropout(
        mine, 0.1, training=True, key=key, global_shape=x.shape, start=(0, positions.start, 0)
    )
    assert torch.equal(got, whole[:, positions.start : positions.stop])


def main() -> None:
    """Both ways."""
    with_dtensors(init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",)))
    with_plain_tensors()
    if dist.get_rank() == 0:
        print(f"sequence parallel on {dist.get_world_size()} ranks: the masks of one process")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main()
    dist.destroy_process_group()
