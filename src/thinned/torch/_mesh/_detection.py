"""This file tells whether a tensor is a DTensor, and what an operator needs to know of it.

Nothing here imports `torch.distributed.tensor`, which takes 0.6 s, unless a tensor of it is there already.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._position import row_major


def is_dtensor(tensor: Any) -> bool:
    """Tells whether this is a DTensor."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def register(tensor: Any) -> None:
    """Teach DTensor our operators, the first time that one comes to them."""
    if is_dtensor(tensor):
        _register()


def prepare(tensor: Any) -> dict[str, Any]:
    """Returns `coordinate`, which a compiled call of an operator takes where its input is a DTensor.

    Where in the whole a rank's part stands is a constant of its graph. torch's cache of compiled code, which
    the ranks of a machine share, knows the graph by what stood in it before, where nothing told ranks apart:
    one would run what another compiled.
    """
    if not torch.compiler.is_compiling():
        register(tensor)
        return {}
    return {"coordinate": tensor.device_mesh.get_coordinate()} if is_dtensor(tensor) else {}


@functools.cache
def _register() -> None:
    from thinned.torch._mesh import _rules

    _rules.register()


def check_source(input: Any, key: Any, generator: torch.Generator | None, name: str = "key") -> None:
    """Refuse to draw a key for a DTensor unless it was declared that all ranks draw the same one.

    Ranks are commonly seeded apart, and then replicas would silently disagree. To draw on one rank and send
    the key to the others would be communication that was not asked for.
    """
    if key is None and generator is None and is_dtensor(input):
        raise RuntimeError(
            f"dropout of a DTensor needs a {name} that all ranks share: pass {name}=thinned.Key(seed), or "
            "give the model's layers theirs with thinned.torch.keyed(model, seed); where all ranks are "
            "seeded alike, pass generator=torch.default_generator"
        )


def ones(input: Tensor, sizes: Sequence[int]) -> Tensor:
    """Ones of a shape that broadcasts to the input's, divided as it is: a rank makes its own alone."""
    if not is_dtensor(input):
        return torch.ones(sizes, device=input.device)
    from torch.distributed.tensor import DTensor

    whole: Any = input
    # Not by way of torch.distributed.tensor.ones, which no compiler can trace.
    pairs = zip(sizes, whole.shape, whole.to_local().shape, strict=True)
    here = [part if size == total else size for size, total, part in pairs]
    return DTensor.from_local(
        torch.ones(here, device=whole.to_local().device),
        whole.device_mesh,
        _placements(input, sizes),
        run_check=False,
        shape=torch.Size(sizes),
        stride=row_major(tuple(sizes)),
    )


def beside(input: Tensor, made: Tensor, divided: bool = True) -> Tensor:
    """A plain tensor, the same on all ranks, as a DTensor on the input's mesh, if the input is one.

    Args:
        input: a tensor of any kind.
        made: any; divided as the input is where it has as many dimensions, replicated elsewhere.
        divided: whether to divide at all.
    """
    if not is_dtensor(input) or is_dtensor(made):
        return made
    from torch.distributed.tensor import DTensor, Replicate

    whole: Any = input
    mesh = whole.device_mesh
    replicated = DTensor.from_local(made, mesh, [Replicate()] * mesh.ndim, run_check=False)
    if not divided or made.dim() != input.dim():
        return replicated
    return replicated.redistribute(
        placements=_placements(input, made.shape)
    )  # a slice of it: nothing is sent


def _placements(input: Any, sizes: Sequence[int]) -> list[Any]:
    """The input's where it is divided along a dimension that the sizes have too; replicated elsewhere."""
    from torch.distributed.tensor import Replicate

    return [
        placement
        if placement.is_shard() and sizes[placement.dim] == input.shape[placement.dim]
        else Replicate()
        for placement in input.placements
    ]
