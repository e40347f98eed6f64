"""These sites wrap a recurrent cell that is called once for each time, or for a whole sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from thinned.contract import Key, fold_number
from thinned.torch._site import MaskKey, Site, check_given
from thinned.torch.nn._part_keys import call_key, is_off, part_key


class CellSite(Site):
    """A cell with dropout around it, and the keys of a sequence's masks."""

    # What the wrapped cell is to be called with and gives back: its state alone, or its output and state.
    returns_state: ClassVar[bool]
    cell: torch.nn.Module

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        if not isinstance(cell, torch.nn.Module):
            raise TypeError(f"cell must be a torch.nn.Module such as nn.LSTMCell, got {cell!r}")
        self.cell = cell
        # Not a default of the class: a graph would see it appear after the first sequence, and be made anew.
        self._sequence: Key | Tensor | None = None

    @contextmanager
    def sequence(self, call: int | None = None, *, key: MaskKey = None) -> Iterator[None]:
        """Hold one key for the steps of a sequence that is looped over by hand.

        Every cell inside this one holds its own, of a key that is given by its name: `key.fold("cell")`.
        `call` tells sequences of one step apart where keyed.
        """
        check_given(key, call)
        named = {name: module for name, module in self.named_modules() if isinstance(module, CellSite)}
        held = list(named.values())
        before = [site._sequence for site in held]
        for name, site in named.items():
            own = key
            for part in name.split(".") if name else ():
                own = part_key(own, fold_number(part))
            site._sequence = call_key(site, call, own) if site._on() else None
        try:
            yield
        finally:
            for site, key in zip(held, before, strict=True):
                site._sequence = key

    def unroll(
        self,
        inputs: Tensor,
        state: Any = None,
        *,
        batch_first: bool = False,
        key: MaskKey = None,
        call: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Run over a sequence, with the keys that its times and masks need.

        Args:
            inputs: (T, B, F), (B, T, F) with batch_first, or (T, F) for one sequence.
            state: the cell's first state; its own default if not given.
            batch_first: whether the batch comes before time.
            key: of the sequence's masks, in place of the cell's own.
            call: tells sequences of one step apart where keyed.

        Returns:
            The outputs of all times, laid out as the inputs, and the last state.
        """
        axis = 1 if batch_first and inputs.dim() > 2 else 0
        if inputs.dim() < 2 or not inputs.shape[axis]:
            raise ValueError(
                f"inputs must be (T, B, F), (B, T, F) with batch_first=True, or (T, F), with at least one "
                f"time, got shape {tuple(inputs.shape)}"
            )
        outputs = []
        with self.sequence(call, key=key):
            for time, input in enumerate(inputs.unbind(axis)):
                output, state = advance(self, input, state, time)
                outputs.append(output)
        return torch.stack(outputs, axis), state

    def _rates(self) -> list[Any]:
        """The drop probabilities now."""
        raise NotImplementedError

    def _on(self) -> bool:
        """Tells whether a call drops."""
        return self.training and not all(is_off(p) for p in self._rates())

    def _step_key(self, time: int | None, call: int | None, key: MaskKey) -> MaskKey:
        """The key of one time's masks."""
        held = None if key is not None or time is None else self._sequence
        whole = call_key(self, call, key) if held is None else held
        return whole if time is None else part_key(whole, time)


def advance(
    cell: torch.nn.Module,
    input: Tensor,
    state: Any,
    time: int | None = None,
    call: int | None = None,
    key: MaskKey = None,
) -> tuple[Tensor, Any]:
    """Takes one step of any cell: its output and its new state."""
    if isinstance(cell, CellSite):
        result = cell(input, state, time=time, call=call, key=key)
        returns_state = cell.returns_state
    else:
        result = cell(input, state)
        returns_state = isinstance(cell, torch.nn.RNNCellBase)
    if isinstance(result, Tensor):
        return result, result
    if returns_state:
        return result[0], result
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise TypeError(
            f"cell must return its state, a tensor, or a pair of its output and state, got "
            f"{type(result).__name__} from {type(cell).__name__}"
        )
    output, state = result
    return output, state


def is_lstm(cell: torch.nn.Module) -> bool:
    """Tells whether its state is torch's (h, c)."""
    return isinstance(cell, torch.nn.LSTMCell) or (isinstance(cell, CellSite) and is_lstm(cell.cell))
