"""Data-parallel training: what one process does with a batch, many do with its parts."""

import functools

import pytest
import torch
import torch.distributed as dist
from ranks import DEVICE, on
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from thinned.torch import keyed, nn, set_rows, set_step
from thinned.torch._site import Site

BATCH, STEPS = 24, 3
SEED = 11


class Block(torch.nn.Module):
    """A residual branch with most kinds of dropout in it."""

    def __init__(self, width):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)
        self.drop, self.noise = nn.Dropout(0.3), nn.GaussianDropout(0.2)
        self.path, self.add = nn.DropPath(0.2), nn.DropoutAdd(0.1)

    def forward(self, x):
        return self.add(self.path(self.down(self.noise(self.drop(torch.relu(self.up(x)))))), x)


class Net(torch.nn.Module):
    def __init__(self, again=None):
        super().__init__()
        self.first = torch.nn.Linear(5, 8)
        self.blocks = torch.nn.ModuleList(Block(8) for _ in range(2))
        self.locked = nn.LockedDropout(0.3, batch_first=True)
        self.last = nn.drop_connect(torch.nn.Linear(8, 1), p=0.2)
        self.again = again

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x) if self.again is None else checkpoint(block, x, **self.again)
        return self.last(self.locked(x)).tanh()


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS * BATCH, 4, 5, dtype=torch.float64, generator=generator)
    x = x.to(DEVICE)
    return x, x.sum(-1, keepdim=True).sin()


def model(again=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return keyed(Net(again).double().to(DEVICE), SEED)


def watched(network, seen):
    """What each site gives, and lets through: zeros tell the masks."""
    for name, site in network.named_modules():
        if isinstance(site, Site) and not isinstance(site, nn.DropConnect):
            name = name.removeprefix("module.")
            site.register_forward_hook(lambda _s, _x, y, name=name: seen.append((name, (y == 0).detach())))
    return seen


def train(network, plain, rows_of, parts, mean=1.0, steps=STEPS):
    """Losses of each step, and what the sites dropped; parts of a batch are taken one after another."""
    x, y = data()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses, dropped = [], watched(plain, [])
    for step in range(steps):
        set_step(plain, step)
        optimizer.zero_grad()
        total = 0.0
        for part in range(parts):
            rows = rows_of(part)
            set_rows(plain, rows, BATCH)
            at = torch.tensor(list(rows)) + step * BATCH
            loss = (network(x[at]) - y[at]).square().sum() / (BATCH * 4)
            (loss * mean).backward()
            total += loss.detach()
        optimizer.step()
        losses.append(total)
    return torch.stack(losses), dropped


@functools.cache
def alone():
    """One process and the whole batch, which nobody had to be told of."""
    network = model()
    x, y = data()
    losses, dropped = [], watched(network, [])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(STEPS):
        set_step(network, step)
        optimizer.zero_grad()
        at = slice(step * BATCH, (step + 1) * BATCH)
        loss = (network(x[at]) - y[at]).square().sum() / (BATCH * 4)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), dropped, [p.detach().clone() for p in network.parameters()]


def agrees(losses, dropped, parameters, rows_of, parts=1, repeated=False):
    """Masks equal to the bit; losses, summed over ranks, and weights to rounding."""
    want_losses, want_dropped, want_parameters = alone()
    dist.all_reduce(losses)
    torch.testing.assert_close(losses, want_losses, rtol=1e-11, atol=0)
    if not repeated:
        each = len(want_dropped) // STEPS
        assert len(dropped) == len(want_dropped) * parts
        for n, (name, zeros) in enumerate(dropped):
            step, rest = divmod(n, each * parts)
            part, site = divmod(rest, each)
            want_name, want = want_dropped[step * each + site]
            assert name == want_name
            assert torch.equal(zeros, want[list(rows_of(part))]), f"{name}, step {step}, part {part}"
    for got, want in zip(parameters, want_parameters, strict=True):
        got = got.full_tensor() if hasattr(got, "full_tensor") else got
        torch.testing.assert_close(got.detach(), want, rtol=1e-9, atol=1e-12)


def contiguous(part=0, parts=1):
    """Of this rank's slice of the batch, the slice with this number."""
    rank, world = dist.get_rank(), dist.get_world_size()
    each = BATCH // (world * parts)
    first = (rank * parts + part) * each
    return range(first, first + each)


def interleaved(_part=0):
    return range(dist.get_rank(), BATCH, dist.get_world_size())


def the_masks_are_worth_comparing():
    _, dropped, _ = alone()
    assert len(dropped) == STEPS * 9
    shares = {name: zeros.double().mean().item() for name, zeros in dropped}
    assert all(
        share > 0.05 for name, share in shares.items() if name.split(".")[-1] in ("drop", "path", "locked")
    )
    first, second = dropped[: len(dropped) // STEPS], dropped[len(dropped) // STEPS :]
    assert not torch.equal(first[0][1], second[0][1])


def distributed_data_parallel():
    for rows_of in (contiguous, interleaved):
        plain = model()
        losses, dropped = train(DistributedDataParallel(plain), plain, rows_of, 1, dist.get_world_size())
        agrees(losses, dropped, plain.parameters(), rows_of)


def distributed_data_parallel_in_parts():
    """Gradients accumulated over parts of each rank's batch."""
    plain = model()
    rows_of = functools.partial(contiguous, parts=2)
    losses, dropped = train(DistributedDataParallel(plain), plain, rows_of, 2, dist.get_world_size())
    agrees(losses, dropped, plain.parameters(), rows_of, parts=2)


def a_distributed_sampler():
    """What torch's sampler hands to a rank are every world-th row of each whole batch."""
    x, y = data()
    world = dist.get_world_size()
    samples = TensorDataset(x, y)
    sampler = DistributedSampler(samples, shuffle=False)
    loader = DataLoader(samples, batch_size=BATCH // world, sampler=sampler)
    rows = interleaved()
    for step, (mine, _) in enumerate(loader):
        assert torch.equal(mine, x[step * BATCH : (step + 1) * BATCH][list(rows)])


def fully_sharded(again=None, mesh=None):
    for rows_of in (contiguous, interleaved):
        network = model(again)
        for block in network.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
        losses, dropped = train(network, network, rows_of, 1, dist.get_world_size())
        agrees(losses, dropped, network.parameters(), rows_of, repeated=again is not None)


@on(4)
def hybrid_sharded():
    fully_sharded(mesh=init_device_mesh(DEVICE, (2, 2), mesh_dim_names=("replicate", "shard")))


def checkpointed():
    for reentrant in (False, True):
        for preserve in (False, True):
            again = {"use_reentrant": reentrant, "preserve_rng_state": preserve}
            plain = model(again)
            network = DistributedDataParallel(plain)
            losses, dropped = train(network, plain, interleaved, 1, dist.get_world_size())
            agrees(losses, dropped, plain.parameters(), interleaved, repeated=True)
            fully_sharded(again)


def without_rows_masks_differ():
    """What the call is for: else all ranks drop as the first does."""
    plain = model()
    set_step(plain, 0)
    x, _ = data()
    dropped = watched(plain, [])
    rows = contiguous()
    plain(x[list(rows)])
    _, want, _ = alone()
    same = all(
        torch.equal(zeros, whole[list(rows)]) for (_, zeros), (_, whole) in zip(dropped, want, strict=False)
    )
    assert same == (dist.get_rank() == 0)
    set_rows(plain, range(5), 6)
    with pytest.raises(ValueError, match="set_rows was told of 5 rows"):
        plain(x[:7])


CASES = [
    the_masks_are_worth_comparing,
    distributed_data_parallel,
    distributed_data_parallel_in_parts,
    a_distributed_sampler,
    fully_sharded,
    hybrid_sharded,
    checkpointed,
    without_rows_masks_differ,
]
