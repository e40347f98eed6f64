"""LSTM and GRU, of which dropped features and units are not computed: smaller products for all gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.torch import functional, nn
from thinned.torch._site import MaskKey
from thinned.torch._thin import _groups
from thinned.torch._thin._kept import Kept, kept_of
from thinned.torch._thin._link import Link
from thinned.torch._thin._submatrix import spread, take
from thinned.torch._thin._units import ThinSite
from thinned.torch.nn._hidden import Run, State
from thinned.torch.nn._part_keys import is_off, part_key
from thinned.torch.nn._recurrent import Recurrent
from thinned.torch.nn._sequences import Sequences


class _OfBatch(Sequences):
    """Features of sequences that all samples and times drop alike."""

    def dropout(self, data: Tensor, p: Any, training: bool, key: MaskKey) -> Tensor:
        """Drop features."""
        noise = (*(1,) * (data.dim() - 1), None)
        return functional.dropout(data, p, training, key=key, noise_shape=noise)


@dataclass(frozen=True)
class _Features:
    """They are those of a sequence that are there, with what they are still to be multiplied by."""

    numbers: Tensor | None
    scale: float = 1.0

    def of(self, kept: Kept | None, data: Tensor) -> tuple[_Features, Tensor]:
        """Gives those of them that a mask keeps too."""
        if kept is None:
            return self, data
        scale = self.scale * kept.scale
        (numbers,) = kept.parts
        if self.numbers is None:
            return _Features(numbers, scale), _columns(data, numbers)
        at = torch.isin(self.numbers, numbers).nonzero().squeeze(1)
        return _Features(self.numbers[at], scale), _columns(data, at)


class ThinRecurrent(ThinSite, Recurrent):
    """A recurrent layer whose masks of features the batch shares."""

    link: Link
    inplace = False

    def is_off(self) -> bool:
        """Its several rates are looked at where they are used."""
        return False

    def forward(self, input: Any, hx: Any = None, *, key: MaskKey = None, call: int | None = None) -> Any:
        """As the layer that it was."""
        return Recurrent.forward(self, input, hx, key=key, call=call)

    def fits(self, input: Tensor) -> bool:
        """Tells whether there is something to compute."""
        return input.numel() > 0

    def _sequences(self, packed: PackedSequence | None) -> Sequences:
        if not self.locked:
            raise RuntimeError(
                f"locked=False of the thin layer {self._name!r}, whose features all times share: "
                "set it between unthin(model) and thin(model)"
            )
        return _OfBatch(self.batch_first, self.locked, packed, self.place)

    def _run(self, data: Tensor, state: State, run: Run) -> tuple[Tensor, State]:
        kept = self._kept(data, run)
        if kept is None:
            return super()._run(data, state, run)
        weights = self._drop_weights(run.rates["weight_p"], run.key)
        each = len(weights) // self.num_layers
        directions = 2 if self.bidirectional else 1
        features, data = _Features(None).of(kept.get("input"), data)
        last = []
        for k in range(self.num_layers):
            if k:
                features, data = features.of(kept.get(f"layer{k - 1}"), data)
            units = kept.get(f"hidden_l{k}")
            own = self._own(weights[k * each : (k + 1) * each], features, units)
            first = tuple(s[k * directions : (k + 1) * directions] for s in state)
            if units is not None:
                first = tuple(_few_states(s, units) for s in first)
            # Where two masks leave nothing together a zero stands, as in the weights: see `_groups.block`.
            data = data if data.shape[-1] else torch.nn.functional.pad(data, (0, 1))
            data, after = self._kernel(data, first, own, 1, run.packed)
            if units is not None:
                after = tuple(_whole_states(s, units) for s in after)
            features, data = _outputs(data, units)
            last.append(after)
        features, data = features.of(kept.get("output"), data)
        size = directions * (self.proj_size or self.hidden_size)
        if features.numbers is not None:
            rows = data.reshape(-1, data.shape[-1])
            whole = spread(rows, None, features.numbers.to(rows.device), features.scale, (len(rows), size))
            data = whole.reshape(*data.shape[:-1], size)
        return data, tuple(torch.cat(parts) for parts in zip(*last, strict=True))

    def _own(self, weights: list[Tensor], features: _Features, units: Kept | None) -> list[Tensor]:
        """One layer's weights, of what is there."""
        directions = 2 if self.bidirectional else 1
        rows = None if units is None else units.of(4 if self.mode == "LSTM" else 3, 1)
        inward = None
        if features.numbers is not None:
            inward = Kept((features.numbers,) * directions, weights[0].shape[1], features.scale)
        each = len(weights) // directions
        made = []
        for number, weight in enumerate(weights):
            kind = number % each
            columns = inward if kind == 0 else units if kind == 1 else None
            made.append(_groups.block(weight, rows, columns, number // each))
        return made

    def _kept(self, data: Tensor, run: Run) -> dict[str, Kept] | None:
        """Gives what each mask keeps; None where all is to be computed and then masked."""
        rates = run.rates
        numbers = all(not isinstance(p, Tensor) or p.numel() == 1 for p in rates.values())
        if run.key is None or not numbers or not self.link._applies(data):
            return None
        size = (2 if self.bidirectional else 1) * (self.proj_size or self.hidden_size)
        parts = {"input": ("input_p", self.input_size), "output": ("output_p", size)}
        parts |= {f"layer{k}": ("dropout", size) for k in range(self.num_layers - 1)}
        parts |= {name: ("hidden_p", self.hidden_size) for name in self._parts if name.startswith("hidden")}
        kept = {}
        for name, (rate, width) in parts.items():
            if not is_off(rates[rate]):
                ones = torch.ones(width, dtype=torch.float64, device="cpu")
                key = part_key(run.key, self._parts[name])
                kept[name] = kept_of(functional.dropout(ones, rates[rate], True, key=key))
                if not len(kept[name].parts[0]):
                    return None  # torch's kernels take no empty matrices
        for name in [name for name in kept if name.endswith("_reverse")]:
            one = name.removesuffix("_reverse")
            both = (kept[one], kept.pop(name))
            scale = max(each.scale for each in both)
            kept[one] = Kept(tuple(part for each in both for part in each.parts), self.hidden_size, scale)
        return kept


class ThinLSTM(ThinRecurrent, nn.LSTM):
    """A long short-term memory that is computed on what it keeps."""


class ThinGRU(ThinRecurrent, nn.GRU):
    """Gated recurrent units that are computed on what they keep."""


def _columns(data: Tensor, numbers: Tensor) -> Tensor:
    rows = data.reshape(-1, data.shape[-1])
    return take(rows, None, numbers.to(rows.device)).reshape(*data.shape[:-1], len(numbers))


def _outputs(data: Tensor, units: Kept | None) -> tuple[_Features, Tensor]:
    """Gives the features of a layer's output: its units in each direction, without what fills up."""
    if units is None:
        return _Features(None), data
    numbers = torch.cat([part + at * units.size for at, part in enumerate(units.parts)])
    if len(numbers) < data.shape[-1]:
        there = [
            torch.arange(len(part), device="cpu") + at * units.width for at, part in enumerate(units.parts)
        ]
        data = _columns(data, torch.cat(there))
    return _Features(numbers, units.scale), data


def _few_states(state: Tensor, units: Kept) -> Tensor:
    """Gives the first state of kept units, (directions, B, most of a direction)."""
    parts = []
    for rows, numbers in zip(state, units.on(state.device), strict=True):
        part = rows.index_select(-1, numbers)
        parts.append(torch.nn.functional.pad(part, (0, units.width - len(numbers))))
    return torch.stack(parts)


def _whole_states(state: Tensor, units: Kept) -> Tensor:
    """Gives the last state of all, 0 where a unit is not there."""
    parts = []
    for rows, numbers in zip(state, units.on(state.device), strict=True):
        whole = rows.new_zeros(len(rows), units.size)
        parts.append(whole.index_copy(-1, numbers, rows[:, : len(numbers)]))
    return torch.stack(parts)
