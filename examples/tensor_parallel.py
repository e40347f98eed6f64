"""Tensor parallelism: the hidden units are divided over the ranks, and their mask with them.

    torchrun --standalone --nproc-per-node 4 examples/tensor_parallel.py

Each rank drops its own units and asks no other; where a tensor is replicated all ranks drop alike. The result
is that of one process, for any number of ranks.
"""

import copy

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from thinned.torch import keyed, nn, set_step


class FeedForward(torch.nn.Module):
    """Two linear maps, with dropout of the hidden units and of the output."""

    def __init__(self, width: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)
        self.drop_hidden, self.drop_output = nn.Dropout(0.5), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width) to (N, width)."""
        return self.drop_output(self.down(self.drop_hidden(torch.relu(self.up(x)))))


def main() -> None:
    """Compare a step on all ranks with the same step on one."""
    torch.manual_seed(0)  # the same weights and data on all ranks
    alone, x = keyed(FeedForward(), seed=1), torch.randn(32, 16)

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    plan = {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel(use_local_output=False)}
    together = parallelize_module(copy.deepcopy(alone), mesh, plan)

    for step in range(3):
        expected = set_step(alone, step)(x)
        got = set_step(together, step)(x).full_tensor()
        torch.testing.assert_close(got, expected)
        assert torch.equal(got == 0, expected == 0)
    if dist.get_rank() == 0:
        print(f"tensor parallel on {dist.get_world_size()} ranks: the masks of one process")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main()
    dist.destroy_process_group()
