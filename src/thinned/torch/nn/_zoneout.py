"""Zoneout lets units of a recurrent cell keep their old value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.contract import fold_number
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, check_given, check_p
from thinned.torch.nn._cells import CellSite
from thinned.torch.nn._part_keys import is_off, part_key

_H, _C = fold_number("h"), fold_number("c")


class ZoneoutCell(CellSite):
    """Equivalent to a recurrent cell whose units keep their old value with some probability.

    A step is `state = cell(input, state)`, as torch's cells have it; a sequence is `cell.unroll(inputs)`. A
    keyed cell that is looped over by hand needs to be told the time, `cell(input, state, time=t)`, or has the
    same mask at all times.

    Args:
        cell: nn.LSTMCell, nn.GRUCell or nn.RNNCell.
        hidden_p: probability in [0, 1] that a unit of h keeps its old value, or a schedule.
        cell_p: the same for an LSTM's c.

    Raises:
        TypeError: `hidden_p must be a real number, got …`; `cell must be …, got …`.
        ValueError: `hidden_p must be in [0, 1], got …`; `cell_p is for an LSTMCell …`.

    Source:
        Krueger et al., "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations", ICLR 2017,
        which has 0.05 for h and 0.5 for c.

    Example:
        >>> import torch
        >>> cell = ZoneoutCell(torch.nn.LSTMCell(4, 8), hidden_p=0.05, cell_p=0.5)
        >>> outputs, (h, c) = cell.unroll(torch.randn(10, 3, 4))
        >>> outputs.shape, c.shape
        (torch.Size([10, 3, 8]), torch.Size([3, 8]))
    """

    _shown = ("hidden_p", "cell_p")

    returns_state = True
    _evaluates_by_p = True

    def __init__(self, cell: torch.nn.Module, hidden_p: Probability = 0.0, cell_p: Probability = 0.0) -> None:
        if not isinstance(cell, torch.nn.RNNCellBase):
            raise TypeError(f"cell must be nn.LSTMCell, nn.GRUCell or nn.RNNCell, got {type(cell).__name__}")
        super().__init__(cell)
        self.hidden_p, self.cell_p = check_p(hidden_p, "hidden_p"), check_p(cell_p, "cell_p")
        if not isinstance(cell, torch.nn.LSTMCell) and not is_off(self.cell_p):
            raise ValueError(f"cell_p is for an LSTMCell, which has a c: {type(cell).__name__} has none")

    def forward(
        self,
        input: Tensor,
        state: Any = None,
        *,
        time: int | None = None,
        key: MaskKey = None,
        call: int | None = None,
    ) -> Any:
        """The new state of one step, by `key` if given; `time` tells steps apart, `call` sequences."""
        check_given(key, call)
        lstm = isinstance(self.cell, torch.nn.LSTMCell)
        new = self.cell(input, state)
        news = new if lstm else (new,)
        olds = tuple(map(torch.zeros_like, news)) if state is None else state if lstm else (state,)
        key = self._step_key(time, call, key) if self._on() else None
        kept = tuple(
            functional.zoneout(
                after, before, p, self.training, key=part_key(key, part), **self.place(after, 0)
            )
            for after, before, p, part in zip(news, olds, self._rates(), (_H, _C), strict=False)
        )
        return kept if lstm else kept[0]

    def _rates(self) -> list[Any]:
        return [self.rate(self.hidden_p), self.rate(self.cell_p)]
