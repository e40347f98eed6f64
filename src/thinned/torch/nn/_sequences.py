"""Whole sequences are dropped here; padded and packed ones have the same masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.contract import Key
from thinned.torch import functional
from thinned.torch._site import check_p
from thinned.torch.nn._part_keys import is_off

Noise = tuple[int | None, ...]


class Sequences:
    """Describes how sequences lie in a tensor: (T, B, F), (B, T, F), or the rows of a packed one."""

    def __init__(self, batch_first: bool, locked: bool, packed: PackedSequence | None, place: Any) -> None:
        self.batch_first = batch_first
        self.noise_shape: Noise | None = None
        if locked:
            self.noise_shape = (None, 1, None) if batch_first else (1, None, None)
        self.packed = packed
        self._batch = 0 if batch_first else 1
        self._place = place
        self._rows: Tensor | None = None

    def dropout(self, data: Tensor, p: Any, training: bool, key: Key | Tensor | None) -> Tensor:
        """Drop by sample, feature and, unless locked, time."""
        if self.packed is None:
            return self._drop(data, p, training, key)
        if not training or is_off(p):
            check_p(p)
            return data
        times, samples = len(self.packed.batch_sizes), int(self.packed.batch_sizes[0])
        sizes = (samples, times) if self.batch_first else (times, samples)
        rows = self._where(data.device)
        padded = data.new_zeros(times * samples, data.shape[1]).index_copy(0, rows, data)
        dropped = self._drop(padded.view(*sizes, -1), p, training, key)
        return dropped.view(times * samples, -1).index_select(0, rows)

    def _drop(self, data: Tensor, p: Any, training: bool, key: Key | Tensor | None) -> Tensor:
        place = self._place(data, self._batch)
        return functional.dropout(data, p, training, key=key, noise_shape=self.noise_shape, **place)

    def _where(self, device: torch.device) -> Tensor:
        """The row of the padded tensor of each packed row: by the sample's index before it was sorted."""
        if self._rows is None:
            assert self.packed is not None
            _, counts, order, _ = self.packed
            time = torch.repeat_interleave(torch.arange(len(counts)), counts)
            sample = torch.arange(len(time)) - (counts.cumsum(0) - counts)[time]
            sample = sample.to(device) if order is None else order.to(device)[sample.to(device)]
            time = time.to(device)
            self._rows = sample * len(counts) + time if self.batch_first else time * int(counts[0]) + sample
        return self._rows
