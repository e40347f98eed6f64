"""One process of many: the rows of its batches, whatever their number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from thinned.contract import check_integer
from thinned.torch import _compat
from thinned.torch._batch import set_rows
from thinned.torch._keyed import sites_of


def set_rank(model: torch.nn.Module, rank: int, world: int) -> RemovableHandle:
    """Say which of several equal parts of every batch this process has: a sample's mask is that of the whole.

    Of the batches that the processes have in one step, put one behind the other in the order of the ranks,
    this process has the rank-th. `set_rows` is told so in front of each forward pass that trains, by the
    first dimension of its first tensor.

    Args:
        model: its sites are the modules of `thinned.torch.nn`; the one that is called, DDP's wrapper say.
        rank: of this process, in [0, world).
        world: how many processes there are.

    Returns:
        A handle; `remove()` ends it.

    Raises:
        TypeError: `rank must be an integer, got …`.
        ValueError: `rank must be in [0, …), got …`; `model has no site …`.

    Example:
        >>> import torch, thinned
        >>> model = thinned.torch.keyed(torch.nn.Sequential(thinned.torch.nn.Dropout(0.5)), seed=1)
        >>> batch = torch.ones(6, 9)
        >>> whole = model(batch)
        >>> handle = set_rank(model, rank=1, world=2)
        >>> torch.equal(model(batch[3:]), whole[3:])
        True
    """
    number, many = check_integer("rank", rank), check_integer("world", world)
    if not 0 <= number < many:
        raise ValueError(f"rank must be in [0, {many}), the number of processes, got {number}")
    sites_of(model)

    def tell(called: torch.nn.Module, args: Any, kwargs: Any) -> None:
        given = (one for one in _compat.pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor))
        first = next((one for one in given if one.dim()), None)
        if called.training and first is not None:
            rows = first.shape[0]
            set_rows(called, range(number * rows, (number + 1) * rows), total=many * rows)

    return model.register_forward_pre_hook(tell, with_kwargs=True)
