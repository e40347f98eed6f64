"""Dropout of DTensors in compiled code: one operator, on this rank's part."""

import os
import shutil
import tempfile
import warnings
from unittest import mock

import torch
import torch.distributed as dist
from ranks import on
from slices import KEY, S0, S1, R, divided, same, values
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.distributed.device_mesh import init_device_mesh

from thinned.torch import functional, keyed, nn


def compiled():
    """One operator in the graph, on this rank's part, and none of torch.distributed."""
    targets = []

    def record(graph, _inputs):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    x, above = values(9, 14), values(9, 14, seed=1)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for placement in (S0, S1, R):
        torch.compiler.reset()
        targets.clear()

        @torch.compile(backend=aot_autograd(fw_compiler=record), fullgraph=True)
        def program(x):
            return functional.dropout(x * 1, 0.4, True, key=KEY, noise_shape=(None, None))

        d = divided(x, mesh, [placement]).requires_grad_()
        y = program(d)
        y.backward(divided(above, mesh, [placement]))
        same(y.detach(), functional.dropout(x, 0.4, True, key=KEY), mesh, [placement])
        same(d.grad, functional.dropout(above, 0.4, True, key=KEY), mesh, [placement])
        assert targets.count("thinned.dropout.default") == 2, targets
        assert not any("c10d" in target for target in targets), targets


@on(2)
def compiled_layers():
    x = values(8, 6, 4, 4)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (nn.AlphaDropout(0.4), nn.GaussianDropout(0.4), nn.Dropout2d(0.4), nn.DropBlock2d(0.3, 2)):
        torch.compiler.reset()
        model = keyed(torch.nn.Sequential(layer), 1)
        part = divided(x, mesh, [S0]).requires_grad_()
        y = torch.compile(model, backend="aot_eager", fullgraph=True)(part)
        same(y.detach(), model(x), mesh, [S0])
        y.backward(divided(x, mesh, [S0]))
        whole = x.clone().requires_grad_()
        model(whole).backward(x)
        same(part.grad, whole.grad, mesh, [S0])


def ranks_that_share_a_cache():
    """One after another: what one has compiled is there for the next, whose part is another."""
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folder)
    x = values(9, 14)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.compiler.reset()
    cache = mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder[0]})
    with cache, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own
        for turn in range(dist.get_world_size()):
            if turn == dist.get_rank():
                program = torch.compile(lambda x: functional.dropout(x, 0.4, True, key=KEY), fullgraph=True)
                same(program(divided(x, mesh, [S0])), functional.dropout(x, 0.4, True, key=KEY), mesh, [S0])
            dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(folder[0])
