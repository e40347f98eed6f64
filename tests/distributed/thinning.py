"""Thin sites on many processes: the same network on all, or one of its own on each."""

import warnings
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from thinned import Key
from thinned.torch import keyed, masked, nn, set_step, thin
from thinned.torch._thin import _spare
from thinned.torch._thin._units import ThinSite

BATCH, STEPS = 8, 3
_spare._LEAST = 1  # these weights are small, and their gradients are to be in memory that serves again


class Net(torch.nn.Module):
    """Units, and heads."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.drop = torch.nn.Linear(6, 20), torch.nn.Linear(20, 6), nn.Dropout(0.5)
        self.attend = nn.MultiheadAttention(6, 3, head_p=0.4, batch_first=True)

    def forward(self, x):
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return x + self.down(self.drop(torch.relu(self.up(x))))


def model(key):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Net().double()
    assert len(thin(network).thinned) == 2
    return keyed(network, key)


def data():
    return torch.randn(BATCH, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def train(network, inner, x):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(STEPS):
        set_step(inner, step)
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in inner.parameters()]


def mine():
    each = BATCH // dist.get_world_size()
    return data()[dist.get_rank() * each :][:each]


def one_seed_is_one_network_and_the_whole_batchs():
    inner = model(5)
    found = train(DistributedDataParallel(inner), inner, mine())
    whole = model(5)
    with masked():
        expected = train(whole, whole, data())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def a_seed_that_folds_the_rank_is_a_network_of_its_own():
    inner = model(Key(5).fold(dist.get_rank()))
    site = next(each for each in inner.modules() if isinstance(each, ThinSite) and "p" in vars(each))
    kept = torch.zeros(20, dtype=torch.int64)
    kept[site.draw(20).parts[0]] = 1
    both = [torch.empty_like(kept) for _ in range(dist.get_world_size())]
    dist.all_gather(both, kept)
    assert not torch.equal(both[0], both[1])
    found = train(DistributedDataParallel(inner), inner, mine())
    again = model(Key(5).fold(dist.get_rank()))
    with masked():
        expected = train(DistributedDataParallel(again), again, mine())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        dist.all_gather(parts := [torch.empty_like(one) for _ in both], one)
        assert torch.equal(parts[0], parts[1])  # the weights stay the same on all


def sharded(how):
    """A thin model whose weights are then divided among ranks, compared with masks of the whole batch."""
    inner = model(5)
    found = how(inner, init_device_mesh("cpu", (dist.get_world_size(),)))
    whole = model(5)
    for step in range(STEPS):
        set_step(inner, step)
        set_step(whole, step)
        y = found(step)
        with masked():
            expected = whole(data())
        expected.square().mean().backward()
        y.square().mean().backward()
        for (name, one), (_, other) in zip(inner.named_parameters(), whole.named_parameters(), strict=True):
            grad = one.grad.full_tensor() if isinstance(one.grad, DTensor) else one.grad
            torch.testing.assert_close(grad, other.grad, rtol=1e-9, atol=1e-12, msg=name)
        for network in (inner, whole):
            network.zero_grad()


def weights_are_sharded_and_gathered_for_each_layer():
    def by_layer(inner, mesh):
        for part in (inner.up, inner.down, inner.attend):
            fully_shard(part, mesh=mesh)
        fully_shard(inner, mesh=mesh)
        warnings.filterwarnings("ignore", ".*returned a view tensor", UserWarning)  # of attention's output
        return lambda step: inner(mine())

    with warnings.catch_warnings():
        sharded(by_layer)


def columns_and_rows_of_weights_are_on_other_ranks():
    def by_tensor(inner, mesh):
        parallelize_module(
            inner, mesh, {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel()}
        )
        return lambda step: inner(data())

    sharded(by_tensor)


def reducers_hold_gradients_as_long_as_they_need_them():
    """Steps that add up on each rank alone, buckets that gradients are views of, and hooks that end later."""
    kinds = [{}, {"gradient_as_bucket_view": True}, {"static_graph": True}, {"bucket_cap_mb": 1e-4}]
    for options in kinds:
        for hook in (None, default_hooks.allreduce_hook):
            for zeros in (True, False):
                found, expected = (_added_up(way, options, hook, zeros) for way in (nullcontext, masked))
                for one, other in zip(found, expected, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def _added_up(way, options, hook, zeros):
    torch.manual_seed(3)
    inner = model(5)
    network = DistributedDataParallel(inner, **options)
    if hook is not None:
        network.register_comm_hook(None, hook)
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.05, momentum=0.9)
    for step in range(4):
        set_step(inner, step)
        optimizer.zero_grad(set_to_none=zeros)
        with way():
            if not options.get("static_graph"):
                with network.no_sync():
                    network(mine()).square().mean().backward()
            network(2 * mine()).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in inner.parameters()]


CASES = [
    reducers_hold_gradients_as_long_as_they_need_them,
    weights_are_sharded_and_gathered_for_each_layer,
    columns_and_rows_of_weights_are_on_other_ranks,
    one_seed_is_one_network_and_the_whole_batchs,
    a_seed_that_folds_the_rank_is_a_network_of_its_own,
]
