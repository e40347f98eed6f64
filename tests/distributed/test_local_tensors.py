"""torch's LocalTensorMode: all ranks of a mesh in one process, of which each number is one for each rank."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

from thinned import Key
from thinned.torch import functional

local = pytest.importorskip("torch.distributed._local_tensor", reason="this torch has no LocalTensorMode")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of what is not final

KEY = Key(3)
VERBS = {
    "dropout": lambda x: functional.dropout(x, 0.5, True, key=KEY),
    "a p for each row": lambda x: functional.dropout(
        x, torch.linspace(0.1, 0.9, x.shape[0]).reshape(-1, 1, 1), True, key=KEY
    ),
    "channels": lambda x: functional.dropout1d(x, 0.5, True, key=KEY),
    "gaussian_dropout": lambda x: functional.gaussian_dropout(x, 0.5, True, key=KEY),
    "drop_block1d": lambda x: functional.drop_block1d(x, 0.5, 2, True, key=KEY),
}


@pytest.fixture(scope="module")
def ranks():
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield 4
    dist.destroy_process_group()


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("rows", [8, 10, 5, 3])
@pytest.mark.parametrize("name", VERBS)
def test_shards_of_one_or_several_sizes_have_the_masks_of_the_whole(ranks, name, rows, dim):
    if dim and name == "drop_block1d":
        pytest.skip("it needs whole samples")
    x = torch.rand((rows, 6, 7) if dim == 0 else (6, rows, 7)) + 1
    expected = VERBS[name](x)
    with local.LocalTensorMode(ranks):
        mesh = init_device_mesh("cpu", (ranks,))
        whole = VERBS[name](distribute_tensor(x, mesh, [Shard(dim)])).full_tensor()
        assert torch.equal(whole.reconcile(), expected)
