"""A predictor traces a model once and predicts many times, also after its weights have changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch

from thinned._arguments import check_key
from thinned.contract import Key, check_integer
from thinned.mc._collect import Batch, check_at_least_1, check_first, check_samples, collect
from thinned.mc._prediction import Prediction
from thinned.mc._statistics import Outputs, check_outputs
from thinned.mc.torch import _inputs_and_outputs
from thinned.mc.torch._active import check_model
from thinned.mc.torch._batch import Direct, Integers
from thinned.mc.torch._program import Program
from thinned.mc.torch._run import Run
from thinned.mc.torch._snapshot import Snapshot
from thinned.mc.torch._training_flags import Also
from thinned.torch import _key


class Predictor:
    """Predict as `predict` does, with the same bits, from a trace that is kept between calls.

    The trace reads the weights where they are: `optimizer.step()`, `load_state_dict`, `weight.data = …` and
    whatever else writes to them show in the next call. The model is traced again, by itself, where a module,
    a parameter or an attribute is another, or a tensor has another type, shape or device; and in every call
    where its forward pass asks for values of its weights. Not seen are entries deep inside of what a module
    holds (a list in a list) and what a forward pass takes from elsewhere, such as a global variable: call
    `refresh()` after changing such.

    Args:
        model: any module; it stays as it is.
        samples: as in `predict`, and so are `key`, `outputs`, `shared`, `batch_size`, `batch_dim`, `memory`,
            `tolerance`, `keep` and `also`.

    Attributes:
        traces: how often the model has been traced.

    Raises:
        TypeError: `model must be a torch.nn.Module, got …`.
        ValueError: `samples must be at least 2, got …`; `outputs must be …`.

    Example:
        >>> import torch, thinned
        >>> from thinned import mc
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        >>> predictor = mc.Predictor(model, samples=20, key=thinned.Key(0))
        >>> x = torch.ones(1, 4)
        >>> before = predictor(x).mean
        >>> _ = model[0].weight.data.mul_(2)
        >>> after = predictor(x).mean
        >>> expected = mc.predict(model, x, samples=20, key=thinned.Key(0)).mean
        >>> bool((after == expected).all()), bool((after == before).all()), predictor.traces
        (True, False, 1)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        samples: int = 100,
        key: Key | None = None,
        outputs: Outputs | None = None,
        shared: bool = False,
        batch_size: int | None = None,
        batch_dim: int = 0,
        memory: int = 2**30,
        tolerance: float | None = None,
        keep: bool = False,
        also: Also = (),
    ) -> None:
        check_model(model)
        check_samples(samples, tolerance)
        check_integer("batch_dim", batch_dim)
        check_at_least_1("memory", memory)
        check_at_least_1("batch_size", 1 if batch_size is None else batch_size)
        check_outputs(outputs)
        self.model, self.samples, self.outputs = model, samples, outputs
        self.key = None if key is None else check_key(key)
        self.tolerance, self.keep, self.traces = tolerance, keep, 0
        self._options: dict[str, Any] = {
            "shared": shared, "batch_dim": batch_dim, "memory": memory, "also": also
        }  # fmt: skip
        self._batch_size = batch_size
        self.refresh()

    def refresh(self) -> None:
        """Forget what was traced: after a change that cannot be seen."""
        self._run = _Kept(self)
        self._snapshot: Snapshot | None = None

    def __call__(
        self, x: Any, *, samples: int | None = None, key: Key | None = None, first: int = 0
    ) -> Prediction:
        """Predict.

        Args:
            x: inputs, as for `predict`.
            samples: of this call, in place of the predictor's.
            key: of this call's masks, in place of the predictor's. Where neither is given one is drawn from
                torch's default CPU generator, as by `predict`.
            first: as in `predict`.

        Returns:
            What `predict` returns, with the same bits.

        Raises:
            SilentError, TypeError, ValueError: as `predict`.
        """
        count = self.samples if samples is None else samples
        check_samples(count, self.tolerance)
        start = check_first(first)
        given = self.key if key is None else check_key(key)
        if self._snapshot is not None and not self._snapshot.holds():
            self.refresh()
        run = copy.copy(self._run)  # of this call, as another thread may be in one; programs are shared
        run.key = Key(*_key.as_words(None)) if given is None else given
        run.samples, run.seen = count, start
        found = _inputs_and_outputs.batches(x, self._batch_size or run.rows, run.batch_dim, self.model)
        with torch.no_grad():
            return collect(
                (part for call, rows in found for part in run.open(call, rows)),
                samples=count,
                tolerance=self.tolerance,
                outputs=self.outputs,
                keep=self.keep,
                silent=run.silence,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what was traced, which belongs to this model and not to a copy."""
        return {name: value for name, value in vars(self).items() if name not in ("_run", "_snapshot")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.refresh()

    def __repr__(self) -> str:
        return f"Predictor({type(self.model).__name__}, samples={self.samples}, outputs={self.outputs!r})"


class _Kept(Run):
    """A run without an end: the model's dropout is on while it is traced or called, and at no other time."""

    def __init__(self, owner: Predictor) -> None:
        self._owner = owner
        super().__init__(owner.model, Key(0), samples=owner.samples, **owner._options)

    def open(self, call: Any, rows: int, numbers: Integers | None = None) -> Iterator[Any]:
        """The parts of a batch, of which those that call the model switch its dropout on."""
        for part in super().open(call, rows, numbers):
            yield _Switched(part, self) if isinstance(part, Direct) else part

    def _program(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        if self.reads:
            self._programs.clear()
        return super()._program(leaves, spec, rows)

    def _traced(self, leaves: list[Any], spec: Any, rows: int) -> Program | None:
        owner = self._owner
        with self.active():
            program = super()._traced(leaves, spec, rows)
        owner.traces += 1
        # After the forward passes: what these note in their modules is in it.
        programs = [one for one in (*self._programs.values(), program) if one is not None]
        owner._snapshot = Snapshot(self.model, (tensor for one in programs for tensor in one.tensors))
        owner._run.reads |= self.reads
        owner._run.may_draw |= self.may_draw
        if program is not None:
            program.keep(owner._snapshot.places_known)
        return program


class _Switched:
    """A batch of which every sample is a call of the model."""

    def __init__(self, batch: Batch, run: Run) -> None:
        self.rows = batch.rows
        self._batch, self._run = batch, run

    def draw(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Samples number first … stop − 1."""
        with self._run.active():
            return self._batch.draw(first, stop)
