"""This callback keys a model of transformers' Trainer and sets the step.

`Trainer(…, callbacks=[Keyed(seed=7)])` is all. Needs `pip install 'thinned[integrations]'`.
"""

from __future__ import annotations

from typing import Any, Literal

from thinned._installed import needs
from thinned.contract import Key
from thinned.torch.integrations._run import KeyedRun

needs("thinned.torch.integrations.transformers", "transformers", "integrations")

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

__all__ = ["Keyed"]


class Keyed(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Key the Trainer's model, and set the step in front of each batch.

    The step is `state.global_step * gradient_accumulation_steps + j` for the j-th batch, from 0, of an
    optimizer's step. It follows from the Trainer's state, so that a run that is resumed from a checkpoint has
    the masks of the run that never stopped. With several processes each has the rows of its rank. Evaluation
    is left alone.

    Args:
        seed: integer in [0, 2^64), or a Key; None if the model is keyed already.
        calls: as in `thinned.torch.keyed`.

    Raises:
        ValueError: when training begins: `model has no site …`, for which `thinned.torch.convert(model)` is;
            `the run was begun with … and is resumed with …`.

    Example:
        >>> callback = Keyed(seed=7)
        >>> # Trainer(model, args, train_dataset=data, callbacks=[callback]).train()
    """

    def __init__(self, seed: int | Key | None, calls: Literal["count"] | None = None) -> None:
        self._run = KeyedRun(seed, calls)
        self._part = 0

    def state(self) -> dict[str, Any]:
        """Returns the state of the run for a checkpoint."""
        return {"args": {}, "attributes": {"begun_with": self._run.facts}}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Key the model."""
        saved = (state.stateful_callbacks or {}).get(type(self).__name__, {})
        if state.global_step and isinstance(saved, dict):
            self._run.remember(saved.get("attributes", {}).get("begun_with", {}))
        else:
            self._run.remember({})
        self._run.begin(
            model,
            args.process_index,
            args.world_size,
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            per_device_train_batch_size=args.per_device_train_batch_size,
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The first batch of an optimizer's step."""
        self._part = 0
        self._set(args, state, model)

    def on_substep_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Another batch of the same step."""
        self._part += 1
        self._set(args, state, model)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the model."""
        self._run.end()

    def _set(self, args: Any, state: Any, model: Any) -> None:
        self._run.at(model, state.global_step * args.gradient_accumulation_steps + self._part)
