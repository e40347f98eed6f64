"""A mode gives each draw of a model in evaluation its key: the n-th site has `key.fold(n)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.contract import Key
from thinned.mc.torch import _training_flags
from thinned.torch import _key
from thinned.torch._draws import HANDLERS, Watched

_HANDLERS = {**HANDLERS, **_training_flags.NORMS}


class Sampling(Watched):
    """While it is entered, stochastic calls draw by `key.fold(n)`: n counts them, from 0, where p > 0."""

    always = True
    unreached = "numbers were drawn that no key reaches, so that samples are no function of the key: {}"

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model, _HANDLERS)
        self.now: Key | Tensor = Key(0)
        self.number = 0

    def start(self, key: Key | Tensor) -> None:
        """Begins the sites of one sample, by this key."""
        self.now, self.number, self.found = key, 0, []

    def next_key(self, name: str) -> Key | Tensor:
        """Returns the key of the next site."""
        key = _key.folded(self.now, self.number)
        self.number += 1
        return key

    def key_of_parts(self, site: Any, call: int | None = None, key: Any = None) -> Key:
        """Returns no key: each part gets its own."""
        return Key(0)
