"""Generators that keep a state show here whether something drew that no key reached."""

from __future__ import annotations

import random
import warnings
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from thinned.torch._draws._mode import Draws

States = dict[str, Any]

# Models of which a call was watched module by module, which takes 15 µs for each of them.
_known: WeakSet[torch.nn.Module] = WeakSet()


def states() -> States:
    """Returns the states of all generators that a forward pass may draw from unasked."""
    found: States = {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "Python's random": random.getstate(),
    }
    numbers: Any = np.random.get_state()  # noqa: NPY002 (the one that is asked about)
    found["numpy.random"] = numbers[1].tobytes(), *numbers[2:]
    if torch.cuda.is_initialized():
        for device, generator in enumerate(torch.cuda.default_generators):
            found[f"torch's generator of cuda:{device}"] = generator.get_state().numpy().tobytes()
    return found


def moved(before: States, after: States) -> list[str]:
    """The names of those that moved."""
    return [name for name, state in after.items() if name in before and before[name] != state]


class Watched(Draws):
    """A mode that tells, after each call of the model, of what drew and was not taken over."""

    watches = True
    unreached = ""  # what is told, with {} for who drew from what

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._closely = False
        self._before: States = {}
        self._unkeyed: dict[str, None] = {}

    @property
    def unkeyed(self) -> list[str]:
        """Draws that moved a generator in the last call: the module, as far as is known, and which."""
        return list(self._unkeyed)

    def begin(self) -> None:
        """A call of the model begins."""
        super().begin()
        self._closely = self.watches and self.model not in _known
        self._before, self._unkeyed = states() if self.watches else {}, {}

    def enter(self, module: torch.nn.Module) -> None:
        """The forward pass of a module begins."""
        if self._closely and self.own is not None:
            self._look()
        super().enter(module)

    def leave(self, module: torch.nn.Module) -> None:
        """The forward pass of a module has ended; with the model's own, what no key reached is told."""
        is_last = (
            self.watches and module is self.model and sum(name is not None for name, _ in self.inside) == 1
        )
        if not self.computes_again and (self._closely or is_last):
            self._look()
        super().leave(module)
        if is_last and not self.computes_again:
            _known.add(self.model)
            if self._unkeyed:
                warnings.warn(self.unreached.format("; ".join(self._unkeyed)), stacklevel=2)

    def _look(self) -> None:
        """Note which generators moved since the last look."""
        after = states()
        name, module = self.own or ("", self.model)
        where = f"{name or 'the model'} ({type(module).__name__})" if self._closely else "some module"
        self._unkeyed.update(dict.fromkeys(f"{where} by {which}" for which in moved(self._before, after)))
        self._before = after
