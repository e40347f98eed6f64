"""Data parallelism: FSDP2 on any number of ranks, with the masks and the losses of one process.

    torchrun --standalone --nproc-per-node 4 examples/data_parallel.py

Two lines are ours: `keyed`, before anything wraps the model, and `set_rows`, which says which rows of the
whole batch this rank has. Run it on 1, 2 or 4 ranks: it prints the same losses.
"""

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from thinned.torch import keyed, nn, set_rows, set_step

BATCH = 32  # rows of the whole batch, whatever the number of ranks


def network() -> torch.nn.Module:
    """A small network in float64, so that ranks that add in another order show no difference."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), nn.Dropout(0.5), torch.nn.Linear(64, 1)]
    return keyed(torch.nn.Sequential(*layers).double(), seed=1)


def samples() -> TensorDataset:
    """Four batches."""
    x = torch.randn(4 * BATCH, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


def main() -> list[float]:
    """Train for two epochs; the loss of each step."""
    rank, world = dist.get_rank(), dist.get_world_size()
    model = network()
    fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = DistributedSampler(samples(), seed=0)
    loader = DataLoader(samples(), batch_size=BATCH // world, sampler=sampler)
    set_rows(model, range(rank, BATCH, world), total=BATCH)  # as the sampler deals them out
    losses, step = [], 0
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for x, y in loader:
            set_step(model, step)
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            losses.append(mean.item() / world)
            step += 1
    if rank == 0:
        print(f"data parallel on {world} ranks:", *(f"{loss:.6f}" for loss in losses))
    return losses


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main()
    dist.destroy_process_group()
