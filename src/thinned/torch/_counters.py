"""The sites of a keyed model share a clock: the step, and the numbers of calls within it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thinned.contract import Key
from thinned.torch import _compat, _recomputed
from thinned.torch._key_tensor import key_to_tensor

_SHIFT = 20  # bits of a call's number that count calls of one site in one forward pass


class Bits:
    """A key as a tensor that graphs read; a copy makes its own."""

    def __init__(self, key: Key) -> None:
        with plainly():
            self.key, self.tensor = key, key_to_tensor(key)

    def __reduce__(self) -> Any:
        return Bits, (self.key,)


class Clock:
    """The step, and how many forward passes and calls have begun in it.

    Its tensors, which graphs read, are ordinary ones on the CPU, whatever context they are made in. A copy
    makes its own from their numbers.
    """

    def __init__(self, step: int = 0, passes: int = 0, counting: bool = False, told: bool = False) -> None:
        with plainly():
            self.step = torch.full((), step, dtype=torch.int64, device="cpu")
            self.passes = torch.full((), passes, dtype=torch.int64, device="cpu")
        self.counting = counting
        self.told = told  # whether the step has been set
        self.warned = False
        self.quiet = False  # while an optimizer calls the model as often as it likes
        self.counts: dict[str, int] = {}  # calls of each site in this forward pass
        self._drawn: dict[tuple[str, Any], int] = {}

    def __reduce__(self) -> Any:
        return Clock, (number(self.step), number(self.passes), self.counting, self.told)

    def set(self, step: int) -> None:
        """Begin a step."""
        with plainly():
            self.step.fill_(step)
            self.passes.zero_()
        self.told = True
        self.counts = {}
        self._drawn.clear()

    def begin(self, model: torch.nn.Module, _: Any) -> None:
        """Begin a forward pass of the model, if it is one of training: its pre-hook."""
        if not model.training and not any(module.training for module in model.modules()):
            return
        if not torch.compiler.is_compiling() and _sampled():
            return
        if _compat.transforms_active() or torch.compiler.is_compiling():
            self.passes.add_(1)
        else:
            with plainly():
                self.passes.add_(1)
        self.counts = {}

    def call(self, site: str, by_call: bool) -> tuple[int, int]:
        """Step and number of a site's call: those of the call that is computed again, where one is."""
        now = _recomputed.state(self, self._now)
        return now.step, (now.passes << _SHIFT) + _next(now.counts, site, by_call)

    def traced_call(self, site: str, by_call: bool) -> Tensor:
        """The same number in a graph, which reads the forward pass's from its tensor."""
        return (self.passes << _SHIFT) + _next(self.counts, site, by_call)

    def _now(self) -> _recomputed.State:
        return _recomputed.State(number(self.step), number(self.passes), self.counts)

    def forget(self) -> None:
        """Forget the draws so far: other rows follow."""
        self._drawn.clear()

    def again(self, site: str, call: Any, input: Tensor) -> bool:
        """Tells whether one mask is drawn for two calls whose gradients are wanted, without a warning so far.

        A weight may be read many times: it is drawn for again when it has been updated since. What a
        checkpoint computes again is no second call.
        """
        version = _compat.version_of(input) if input.is_leaf else -1
        before = self._drawn.get((site, call))
        self._drawn[site, call] = version
        if before is None or before == version >= 0:
            return False
        if self.warned or self.quiet or _compat.backward_task() != -1:
            return False
        return not _sampled()

    def warn(self, site: str) -> None:
        """Tell, once for a model, of a mask that is drawn twice."""
        self.warned = True
        warnings.warn(self._words(site), stacklevel=5)

    def _words(self, site: str) -> str:
        step = number(self.step)
        calls = (
            'keyed(model, seed, calls="count") tells calls apart by itself, layer(x, call=1) by hand; parts '
            "of one batch are told apart by set_rows(model, rows, total)"
        )
        if self.told:
            return f"{site} has drawn one mask for two calls in step {step}: {calls}"
        return (
            f"{site} has drawn the mask of step {step} again: no step has been set since keyed, and the "
            "same units are dropped in every step. Call thinned.torch.set_step(model, n) in each, or "
            f"count_steps(model, optimizer) once. Within a step, {calls}"
        )


def _sampled() -> bool:
    """Tells whether `thinned.mc` drops in evaluation: the masks are its own."""
    return any(getattr(mode, "always", False) for mode in _compat.function_mode_stack())


def _next(counts: dict[str, int], site: str, by_call: bool) -> int:
    if not by_call:
        return 0
    before = counts.get(site, 0)
    counts[site] = before + 1
    return before


@contextmanager
def plainly() -> Iterator[None]:
    """Enter a context where tensors are ordinary: outside inference mode, fake tensors and tracers."""
    with torch.inference_mode(False), _compat.no_dispatch_modes():
        yield


def number(tensor: Tensor) -> int:
    """The value of a clock's tensor."""
    if not _compat.dispatch_modes():
        return int(tensor)
    with plainly():
        return int(tensor)
