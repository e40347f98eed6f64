"""Each process of several computes its rows of a batch, whose masks are those of the whole batch."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from thinned.contract import check_integer
from thinned.torch import _compat
from thinned.torch._keyed import sites_of
from thinned.torch._placement import Rows


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


Model = TypeVar("Model", bound=torch.nn.Module)


def set_rows(model: Model, rows: range | None, total: int | None = None, *, dim: int = 0) -> Model:
    """Tell every site which rows of a larger batch its inputs are: a sample's mask is then that of the whole.

    For data-parallel training, and for a batch that is taken in parts. With a keyed model, one process and
    many have equal masks for equal samples. All other sizes of an input must be those of the whole. A DTensor
    knows its part: rows then say which of a larger batch the whole DTensor is.

    Args:
        model: its sites are the modules of `thinned.torch.nn`. What is not dropped by sample (weights,
            words, a whole batch) has one mask for all rows anyway.
        rows: their numbers in the whole batch, in the order of the input: `range(8, 16)` for the second
            eight, `range(rank, total, world)` for what torch's DistributedSampler hands to a rank. None: the
            whole batch is here.
        total: rows of the whole batch.
        dim: of the batch in inputs of layers that drop single elements. Layers that know their batch, such
            as `Dropout2d` or `LockedDropout`, do not ask for it.

    Returns:
        The model itself.

    Raises:
        TypeError: `rows must be a range or None, got …`; `total must be an integer, got …`.
        ValueError: `rows … are not in a batch of …`; `model has no site …`; in a call, `set_rows was told of
            … rows, and dimension … of shape … does not have so many …`.

    Source:
        CONTRACT.md, section 1: the position of a shard's element is its index in the whole.

    Example:
        >>> import torch, thinned
        >>> model = thinned.torch.keyed(torch.nn.Sequential(thinned.torch.nn.Dropout(0.5)), seed=1)
        >>> batch = torch.ones(6, 9)
        >>> whole = model(batch)
        >>> third = set_rows(model, range(2, 6, 3), total=6)(batch[2::3])
        >>> torch.equal(third, whole[2::3])
        True
    """
    told = None if rows is None else _checked(rows, total, check_integer("dim", dim))
    for site in sites_of(model).values():
        site.rows = told
        if site._clock is not None:
            site._clock.forget()
    return model


def _checked(rows: range, total: int | None, dim: int) -> Rows:
    if not isinstance(rows, range):
        raise TypeError(f"rows must be a range or None, got {rows!r}: range(first, last + 1, apart)")
    number = check_integer("total", total)
    if rows.step < 0 or rows.start < 0 or (len(rows) and rows[-1] >= number):
        raise ValueError(f"rows {rows} are not in a batch of total={number}, counted upwards from 0")
    return Rows(rows.start, rows.step, len(rows), number, dim)
