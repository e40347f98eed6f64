"""Masks are read here from inputs and outputs, with their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thinned._audit._calls import CHANNELS, OTHER, PATHS, Call

Z = 5.0  # standard errors from which on a difference is one
_CHANCE = math.log(1e-9)


def known(call: Call) -> npt.NDArray[np.bool_]:
    """Return where an input shows whether it was kept: it is neither 0 nor infinite."""
    return np.asarray((call.input != 0) & np.isfinite(call.input))


def mask(call: Call) -> npt.NDArray[np.bool_]:
    """True where an element was kept; meaningful where `known` is."""
    return np.asarray(call.output != 0)


def multiplies(call: Call) -> bool:
    """Tells whether the output is the input times a mask, as far as shapes and kinds tell."""
    return call.kind != OTHER and call.output.shape == call.input.shape and bool(known(call).any())


def drops(call: Call) -> bool:
    """Tells whether anything that could be kept was dropped."""
    return multiplies(call) and bool((known(call) & ~mask(call)).any())


def dropped_share(calls: Sequence[Call]) -> float | None:
    """The share of elements that were dropped, over calls; None where it cannot be known."""
    seen = [call for call in calls if multiplies(call)]
    total = sum(int(known(call).sum()) for call in seen)
    return 1 - sum(int((known(call) & mask(call)).sum()) for call in seen) / total if total else None


def shared_dims(calls: Sequence[Call]) -> tuple[bool, ...]:
    """Tells for each dimension whether decisions are the same along it, as far as a site's calls show."""
    shared = [True] * calls[0].input.ndim
    for call in calls:
        kept, seen = mask(call), known(call)
        for dim in range(call.input.ndim):
            both = (kept & seen).any(dim) & (~kept & seen).any(dim)
            shared[dim] &= not bool(both.any())
    return tuple(shared)


class Decisions(NamedTuple):
    """The independent decisions of calls at one site.

    Args:
        kept: of each, whether it was to keep.
        weight: of each, the sum of the squares of what it is about.
    """

    kept: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float64]


def decisions(calls: Sequence[Call]) -> Decisions:
    """The decisions of all calls at a site, one for each group of elements that share it."""
    along = _sharing(calls)
    kept, weight = [], []
    for call in calls:
        seen = known(call)
        size = np.square(np.where(seen, call.input, 0.0), dtype=np.float64)
        keep, each = (mask(call) & seen).any(along), size.sum(along)
        some = seen.any(along)
        kept.append(np.asarray(keep)[some])
        weight.append(np.asarray(each)[some])
    return Decisions(np.concatenate(kept, None), np.concatenate(weight, None))


def _sharing(calls: Sequence[Call]) -> tuple[int, ...]:
    rank = calls[0].input.ndim
    if calls[0].by_function:
        if calls[0].kind == PATHS:
            return tuple(range(1, rank))
        return tuple(range(2 if rank > 2 else 1, rank)) if calls[0].kind == CHANNELS else ()
    return tuple(dim for dim, shared in enumerate(shared_dims(calls)) if shared)


def ratios(call: Call) -> npt.NDArray[np.float64]:
    """Output over input of what was kept."""
    at = known(call) & mask(call)
    result: npt.NDArray[Any] = call.output[at].astype(np.float64) / call.input[at].astype(np.float64)
    return result


def scale(call: Call) -> float:
    """The factor of what was kept: sum(x y) / sum(x x) over kept elements."""
    at = known(call) & mask(call)
    x, y = call.input[at].astype(np.float64), call.output[at].astype(np.float64)
    return float((x * y).sum() / (x * x).sum()) if x.size else math.nan


def same_masks(one: Call, other: Call) -> bool:
    """Tells whether two masks come of one draw: drops at the smaller rate are drops at the larger too.

    By chance that happens with a probability of the larger rate to the number of what is dropped.
    """
    if one.input.shape != other.input.shape or not (multiplies(one) and multiplies(other)):
        return False
    seen = known(one) & known(other)
    dropped = [~mask(call)[seen] for call in (one, other)]
    fewer, more = sorted(dropped, key=lambda each: int(each.sum()))
    if bool((fewer & ~more).any()):
        return False
    shared = _sharing([one])
    groups = math.prod(size for dim, size in enumerate(one.input.shape) if dim not in shared)
    count = int(fewer.sum()) * groups // max(one.input.size, 1)
    rate = min(float(more.mean()), 1 - 1e-9) if more.size else 1.0
    return count > 0 and rate > 0 and count * math.log(rate) < _CHANCE
