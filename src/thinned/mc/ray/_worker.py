"""A worker makes the model and its trace once, and predicts batch after batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

import thinned
from thinned.contract import Key
from thinned.mc._collect import SilentError, together
from thinned.mc._statistics import Outputs
from thinned.mc.ray import _chunking, _columns
from thinned.mc.torch import _inputs_and_outputs
from thinned.mc.torch._active import check_model
from thinned.mc.torch._batch import Direct, Traced
from thinned.mc.torch._run import Run


@dataclass(frozen=True)
class Plan:
    """The arguments of a prediction that every worker has alike, as `predict` documents them."""

    inputs: _columns.Inputs
    index: str
    samples: int
    key: Key
    outputs: Outputs
    shared: bool
    batch_size: int
    memory: int
    tolerance: float | None
    also: tuple[str | type[torch.nn.Module], ...]
    keep_columns: tuple[str, ...]
    threads: int
    device: str | None


class Worker:
    """A callable from a batch's columns to those of its predictions.

    Args:
        plan: the same for all workers.
        model: what gives the model, or a function that makes it; called at the first batch, and not here: Ray
            tells of what goes wrong there in one piece, and of what goes wrong here in a hundred lines.
    """

    def __init__(self, plan: Plan, model: Callable[[], Any]) -> None:
        self._plan, self._model = plan, model
        self._run: Run | None = None

    def __call__(self, batch: _columns.Batch) -> dict[str, Any]:
        """Predictions of a batch, row by row in its order."""
        plan = self._plan
        wanted = [*_columns.names_of(plan.inputs), plan.index, *plan.keep_columns]
        _columns.check_known(wanted, list(batch))
        numbers = _columns.numbers(batch, plan.index)
        found = _columns.Found(len(numbers))
        run = self._opened()
        with run.active():
            for rows, columns in _columns.alike(batch, plan.inputs):
                for places, own in _chunking.chunks(numbers[rows], plan.batch_size):
                    parts = self._parts(run, columns, places, numbers[rows])
                    first = next(parts)
                    if isinstance(first, Direct):  # one input at a time: what only fills a slot serves none
                        places, own = places[own], own[own]
                        parts = self._parts(run, columns, places, numbers[rows])
                    else:
                        parts = itertools.chain([first], parts)
                    found.put(rows[places], self._drawn(run, parts), own)
        kept = {name: batch[name] for name in plan.keep_columns}
        return {plan.index: numbers, **found.columns(), **kept}

    def _parts(self, run: Run, columns: Any, places: Any, numbers: Any) -> Iterator[Traced | Direct]:
        """Some rows, in parts that can be drawn from."""
        call = _inputs_and_outputs.as_call(_columns.arguments(self._plan.inputs, columns, places), run.model)
        return run.open(call, len(places), numbers[places])

    def _drawn(self, run: Run, part: Any) -> Any:
        plan = self._plan
        found = together(part, samples=plan.samples, tolerance=plan.tolerance, outputs=plan.outputs)
        if not run.may_draw and not found.std.any():
            raise SilentError(run.silence())
        return found

    def _opened(self) -> Run:
        """The run, opened at the first batch."""
        plan = self._plan
        # At every batch: torch keeps the number for each thread, and Ray says nothing of its threads.
        torch.set_num_threads(plan.threads)
        if self._run is None:
            thinned.set_num_threads(plan.threads)
            model = self._model()
            check_model(model)
            if plan.device is not None:
                model = model.to(plan.device)
            self._run = Run(
                model,
                plan.key,
                samples=plan.samples,
                shared=plan.shared,
                memory=plan.memory,
                also=plan.also,
            )
        return self._run
