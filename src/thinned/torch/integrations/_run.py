"""The callbacks of all trainers share this: they key the model, set the step, and know a resumed run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch.utils.hooks import RemovableHandle

from thinned.contract import Key
from thinned.torch._keyed import check_keyed, keyed, set_step
from thinned.torch._ranks import set_rank


class KeyedRun:
    """A run of a trainer's.

    Args:
        seed: of the model's keys; None if the model is keyed already.
        calls: as in `thinned.torch.keyed`.
    """

    def __init__(self, seed: int | Key | None, calls: Literal["count"] | None) -> None:
        self.seed = seed if seed is None or isinstance(seed, Key) else Key(seed)
        self.calls = calls
        self.facts: dict[str, Any] = {}
        self._handle: RemovableHandle | None = None

    def begin(self, model: torch.nn.Module, rank: int, world: int, **facts: Any) -> None:
        """Key the model, before its first batch.

        Args:
            model: without the wrappers that the trainer put around it.
            rank: of this process.
            world: how many there are.
            facts: what the number of a batch depends on, by the trainer's name for it.
        """
        named = {"seed": None if self.seed is None else [self.seed.seed, self.seed.stream]}
        now = {**named, "processes": world, **facts}
        self._check_same(now)
        self.facts = now
        if self.seed is not None:
            keyed(model, self.seed, calls=self.calls)
        else:
            check_keyed(model)
        self.end()
        if world > 1:
            self._handle = set_rank(model, rank, world)

    def end(self) -> None:
        """Leave the model's rows alone."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def at(self, model: torch.nn.Module, step: int) -> None:
        """A batch begins."""
        set_step(model, step)

    def remember(self, saved: Mapping[str, Any]) -> None:
        """Notes the state that the resumed run began with."""
        self.facts = dict(saved)

    def _check_same(self, now: Mapping[str, Any]) -> None:
        for name, value in now.items():
            if name in self.facts and self.facts[name] != value:
                raise ValueError(
                    f"the run was begun with {name}={self.facts[name]} and is resumed with {name}={value}: "
                    "the step counts batches, so the masks would be those of others. Resume with the same, "
                    "or begin a new run from the saved weights"
                )
