"""This callback keys a module of Lightning's Trainer and sets the step.

`Trainer(…, callbacks=[Keyed(seed=7)])` is all. Needs `pip install 'thinned[integrations]'`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from thinned._installed import needs
from thinned.contract import Key
from thinned.torch.integrations._run import KeyedRun

needs("thinned.torch.integrations.lightning", "lightning", "integrations")

from lightning.pytorch import Callback

__all__ = ["Keyed"]


class Keyed(Callback):  # type: ignore[misc]
    """Key the module that Lightning trains, and set the step in front of each batch.

    The step is `current_epoch * num_training_batches + batch_idx`. It follows from the Trainer's state, so
    that a resumed run has the masks of the run that never stopped, and each batch of accumulated gradients
    has masks of its own. Of data without a length it is Lightning's count of batches. With several processes
    each has the rows of its rank. Validation is left alone.

    Args:
        seed: integer in [0, 2^64), or a Key; None if the module is keyed already.
        calls: as in `thinned.torch.keyed`.

    Raises:
        ValueError: when training begins: `model has no site …`, for which `thinned.torch.convert(model)` is;
            `the run was begun with … and is resumed with …`.

    Example:
        >>> callback = Keyed(seed=7)
        >>> # Trainer(callbacks=[callback]).fit(module, loader)
    """

    def __init__(self, seed: int | Key | None, calls: Literal["count"] | None = None) -> None:
        super().__init__()
        self._run = KeyedRun(seed, calls)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the run for a checkpoint."""
        return dict(self._run.facts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A run is resumed."""
        self._run.remember(state_dict)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Key the module."""
        self._run.begin(
            pl_module,
            trainer.global_rank,
            trainer.world_size,
            accumulate_grad_batches=trainer.accumulate_grad_batches,
            num_training_batches=trainer.num_training_batches,
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch begins."""
        each = trainer.num_training_batches
        if math.isinf(each):
            step = trainer.fit_loop.epoch_loop.total_batch_idx
        else:
            step = trainer.current_epoch * each + batch_idx
        self._run.at(pl_module, step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module."""
        self._run.end()
        self._run.remember({})
