"""A checkpoint computes calls again in the backward pass; here they get their first key and step.

`torch.utils.checkpoint` keeps an object for each region: its context (use_reentrant=True) or its frame. Both
are found on Python's stack, in the forward pass and when the region runs again. What the counters were when a
region began is kept on that object, and so are the values that its calls went by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, TypeVar

import torch

from thinned.torch import _compat

Value = TypeVar("Value")


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


@dataclass
class _Values:
    """The values of an owner's calls in a region, and how many its last run in a backward pass has had."""

    values: list[Any] = field(default_factory=list)
    task: int = -1
    taken: int = 0


def held(owner: Any, now: Callable[[], Value], unseen: Callable[[], Value]) -> Value:
    """The value that a call goes by: `now()`, or that of the call that is computed again.

    Between the forward pass and its recomputation the step or the rows may have moved on. What is computed
    again in an unknown way goes by `now()`.

    Args:
        owner: whose value it is; its calls in a region are told apart by their order.
        now: makes the value of the forward pass.
        unseen: makes that of a call that is computed again and had asked for none.
    """
    if _compat.outside_checkpoints():
        return now()
    again, begun = _regions(sys._getframe(1))
    value = now() if again is None else _taken(_kept(again).get(owner), unseen)
    for region in begun:
        _kept(region).setdefault(owner, _Values()).values.append(value)
    return value


def notes(make: Callable[[], Value]) -> tuple[list[Value], tuple[Value, int] | None] | None:
    """The notes of the regions around a call: of those that run at first, and of one that runs again.

    Args:
        make: makes a note, which is kept with its region.

    Returns:
        None outside of all regions. Else the notes of first runs, and the note of the innermost region that
        is computed again with the number of the backward pass; a fresh note where it is not known.
    """
    # A compiler makes one graph of a region, and computes it again with the keys that it has.
    if torch.compiler.is_compiling() or _compat.outside_checkpoints():
        return None
    again, begun = _regions(sys._getframe(1))
    first = [_kept(region).setdefault(notes, make()) for region in begun]
    task = _compat.backward_task()
    if again is None and task == -1:
        return first, None
    return first, (make() if again is None else _kept(again).setdefault(notes, make()), task)


def _taken(known: _Values | None, unseen: Callable[[], Value]) -> Value:
    if known is None:
        return unseen()
    if known.task != (task := _compat.backward_task()):
        known.task, known.taken = task, 0
    known.taken += 1
    return known.values[known.taken - 1] if known.taken <= len(known.values) else unseen()


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
    known: _Region | None = _kept(region).get(owner)
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


def _kept(region: Any) -> dict[Any, Any]:
    kept: dict[Any, Any] = vars(region).setdefault("_thinned", {})
    return kept


def _unknown() -> RuntimeError:
    return RuntimeError(
        'keyed(model, calls="count") cannot tell which call is computed again in this backward pass: it '
        "knows torch.utils.checkpoint alone. Say which call it is, layer(x, call=…), which needs no counting"
    )
