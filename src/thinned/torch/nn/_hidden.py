"""A recurrent layer drops hidden units here: of its state, and of its output at all times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.torch import functional
from thinned.torch._site import MaskKey
from thinned.torch.nn._part_keys import part_key
from thinned.torch.nn._sequences import Sequences

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Run:
    """Holds the settings of one call of a recurrent layer."""

    rates: dict[str, Any]
    key: MaskKey
    sequences: Sequences
    packed: PackedSequence | None


class Units:
    """Holds one layer's dropped units: one mask in each direction, for all samples and times."""

    def __init__(self, layer: Any, number: int, run: Run) -> None:
        ends = ("", "_reverse") if layer.bidirectional else ("",)
        self.keys = [part_key(run.key, layer._parts[f"hidden_l{number}{end}"]) for end in ends]
        self.p = run.rates["hidden_p"]

    def weights(self, weights: list[Tensor]) -> list[Tensor]:
        """Weights of which the recurrent ones do not read dropped units."""
        each = len(weights) // len(self.keys)
        changed = list(weights)
        for number, key in enumerate(self.keys):
            at = number * each + 1
            changed[at] = self._drop(weights[at], key)
        return changed

    def outputs(self, data: Tensor) -> Tensor:
        """The output, (…, H) or (…, 2H), without them."""
        parts = data.chunk(len(self.keys), -1)
        dropped = [self._drop(part, key) for part, key in zip(parts, self.keys, strict=True)]
        return dropped[0] if len(dropped) == 1 else torch.cat(dropped, -1)

    def states(self, state: Tensor) -> Tensor:
        """The last state, (directions, B, H): 0 where a unit is dropped, and as it is elsewhere."""
        parts = []
        for part, key in zip(state.split(1), self.keys, strict=True):
            # Of ones, and not by mode="classic", whose evaluation scales: an exported program may be turned.
            kept = self._drop(part.new_ones(part.shape[-1]), key) != 0
            parts.append(torch.where(kept, part, 0.0))
        return torch.cat(parts)

    def _drop(self, x: Tensor, key: MaskKey) -> Tensor:
        noise = (*(1,) * (x.dim() - 1), None)
        return functional.dropout(x, self.p, True, key=key, noise_shape=noise)
