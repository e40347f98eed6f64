"""Which call is computed again: a checkpoint runs a part of the forward pass once more in the backward pass.

`torch.utils.checkpoint` keeps an object for each region: its context (use_reentrant=True) or its frame. Both
are found on Python's stack, in the forward pass and when the region runs again. What the counters were when a
region began is kept on that object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from thinned.torch import _compat


@dataclass
class State:
    """Step, forward pass, and how often each site was called in it."""

    step: int
    passes: int
    counts: dict[str, int]

    def copy(self) -> State:
        """The same, to count on from."""
        return replace(self, counts=dict(self.counts))


@dataclass
class _Region:
    """The counters when a region began, and those of its last run in a backward pass."""

    began: State
    task: int = -1
    again: State | None = None


def state(owner: Any, now: Callable[[], State]) -> State:
    """The counters that a call goes by: `now()`, or those of the region that is computed again.

    Args:
        owner: whose counters they are.
        now: makes the counters of the forward pass.

    Raises:
        RuntimeError: `keyed(model, calls="count") cannot tell which call is computed again …`.
    """
    again, begun = _regions(sys._getframe(1))
    task = _compat.backward_task()
    if again is None and task != -1:
        raise _unknown()
    current = now() if again is None else _again(owner, again, task)
    for region in begun:
        _kept(region).setdefault(owner, _Region(current.copy()))
    return current


def _again(owner: Any, region: Any, task: int) -> State:
    known = _kept(region).get(owner)
    if known is None:
        raise _unknown()
    if known.again is None or known.task != task:
        known.task, known.again = task, known.began.copy()
    return known.again


def _regions(frame: FrameType | None) -> tuple[Any, list[Any]]:
    """The innermost region that is computed again, and those that have begun inside it."""
    begun: list[Any] = []
    while frame is not None:
        code = frame.f_code
        if code in _compat.CHECKPOINTS:
            name, again = _compat.CHECKPOINTS[code]
            region = frame.f_locals.get(name)
            if name == _compat.GENERATOR:
                region = None if region is None else region.gi_frame.f_locals.get("new_frame")
            if again:
                return region, begun
            if region is not None:
                begun.append(region)
        frame = frame.f_back
    return None, begun


def _kept(region: Any) -> dict[Any, _Region]:
    kept: dict[Any, _Region] = vars(region).setdefault("_thinned", {})
    return kept


def _unknown() -> RuntimeError:
    return RuntimeError(
        'keyed(model, calls="count") cannot tell which call is computed again in this backward pass: it '
        "knows torch.utils.checkpoint alone. Say which call it is, layer(x, call=…), which needs no counting"
    )
