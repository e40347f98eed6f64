"""The examples, as they are."""

import sys
from pathlib import Path

import torch
from torch.utils.data.distributed import DistributedSampler

from thinned.torch import set_step

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import data_parallel
import sequence_parallel
import tensor_parallel


def losses_of_one_process():
    model, (x, y) = data_parallel.network(), data_parallel.samples().tensors
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = DistributedSampler(data_parallel.samples(), num_replicas=1, rank=0, seed=0)
    step = 0
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for rows in torch.tensor(list(sampler)).split(data_parallel.BATCH):
            optimizer.zero_grad()
            loss = (set_step(model, step)(x[rows]) - y[rows]).square().mean()
            loss.backward()
            optimizer.step()
            yield loss.item()
            step += 1


def example_of_data_parallelism():
    got, want = data_parallel.main(), list(losses_of_one_process())
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def example_of_tensor_parallelism():
    tensor_parallel.main()


def example_of_sequence_parallelism():
    sequence_parallel.main()


CASES = [example_of_data_parallelism, example_of_tensor_parallelism, example_of_sequence_parallelism]
