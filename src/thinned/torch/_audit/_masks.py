"""Masks as inputs and outputs show them, and their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from thinned.torch._audit._watch import CHANNELS, OTHER, PATHS, Call

Z = 5.0  # standard errors from which on a difference is one
_CHANCE = math.log(1e-9)


def known(call: Call) -> Tensor:
    """Where an input shows whether it was kept: it is neither 0 nor infinite."""
    return (call.input != 0) & torch.isfinite(call.input)


def mask(call: Call) -> Tensor:
    """True where an element was kept; meaningful where `known` is."""
    return call.output != 0


def multiplies(call: Call) -> bool:
    """Whether the output is the input times a mask, as far as shapes and kinds tell."""
    return call.kind != OTHER and call.output.shape == call.input.shape and bool(known(call).any())


def drops(call: Call) -> bool:
    """Whether anything that could be kept was dropped."""
    return multiplies(call) and bool((known(call) & ~mask(call)).any())


def kept_share(calls: Sequence[Call], complement: bool = False) -> float | None:
    """The share of elements that were kept, or dropped, over calls; None where nobody can say."""
    total = sum(int(known(call).sum()) for call in calls if multiplies(call))
    kept = sum(int((known(call) & mask(call)).sum()) for call in calls if multiplies(call))
    if not total:
        return None
    return 1 - kept / total if complement else kept / total


def shared_dims(calls: Sequence[Call]) -> tuple[bool, ...]:
    """For each dimension whether decisions are the same along it, as far as all calls of a site show."""
    shared = [True] * calls[0].input.dim()
    for call in calls:
        kept, seen = mask(call), known(call)
        for dim in range(call.input.dim()):
            both = (kept & seen).any(dim) & (~kept & seen).any(dim)
            shared[dim] &= not bool(both.any())
    return tuple(shared)


class Decisions(NamedTuple):
    """The independent decisions of calls at one site.

    Args:
        kept: of each, whether it was to keep.
        weight: of each, the sum of the squares of what it is about.
    """

    kept: Tensor
    weight: Tensor


def decisions(calls: Sequence[Call]) -> Decisions:
    """The decisions of all calls at a site, one for each group of elements that share it."""
    along = _sharing(calls)
    kept, weight = [], []
    for call in calls:
        seen, size = known(call), call.input.double().square()
        keep, each = mask(call) & seen, torch.where(seen, size, 0.0)
        if along:
            keep, each, seen = keep.amax(along), each.sum(along), seen.amax(along)
        kept.append(keep[seen])
        weight.append(each[seen])
    return Decisions(torch.cat(kept), torch.cat(weight))


def _sharing(calls: Sequence[Call]) -> list[int]:
    rank = calls[0].input.dim()
    if calls[0].by_function:
        if calls[0].kind == PATHS:
            return list(range(1, rank))
        return list(range(2 if rank > 2 else 1, rank)) if calls[0].kind == CHANNELS else []
    return [dim for dim, shared in enumerate(shared_dims(calls)) if shared]


def scale(call: Call) -> float:
    """The factor of what was kept: sum(x y) / sum(x x) over kept elements."""
    at = known(call) & mask(call)
    x, y = call.input[at].double(), call.output[at].double()
    return float((x * y).sum() / (x * x).sum()) if x.numel() else math.nan


def same_masks(one: Call, other: Call) -> bool:
    """Whether two masks come of one draw: what is dropped at the smaller rate is dropped at the larger too.

    By chance that happens with a probability of the larger rate to the number of what is dropped.
    """
    if one.input.shape != other.input.shape or not (multiplies(one) and multiplies(other)):
        return False
    seen = known(one) & known(other)
    dropped = [~mask(call)[seen] for call in (one, other)]
    fewer, more = sorted(dropped, key=lambda each: int(each.sum()))
    if bool((fewer & ~more).any()):
        return False
    shared = _sharing([one]) or []
    groups = math.prod(size for dim, size in enumerate(one.input.shape) if dim not in shared)
    count = int(fewer.sum()) * groups // max(one.input.numel(), 1)
    rate = min(float(more.double().mean()), 1 - 1e-9) if more.numel() else 1.0
    return count > 0 and rate > 0 and count * math.log(rate) < _CHANCE
