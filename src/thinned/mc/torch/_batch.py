"""Samples of some inputs are drawn here by a trace, many at once, or by the model itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinned.contract import Key
from thinned.mc import _keys
from thinned.mc.torch._inputs_and_outputs import as_array, cut
from thinned.mc.torch._program import Program

# Bytes that samples of one pass take. Two GPT blocks, of a loop's time: 0.47 with 2^26, 0.60 with 2^28, 0.65
# with 2^30, and 0.75 with 2^24.
_WORK = 1 << 26
Integers = npt.NDArray[np.int64]
_KEPT = 1 << 14  # bytes of numbers of inputs, one for each key, up to which keys are kept


class Settings(Protocol):
    """Holds what of a call of `predict` a batch has to know."""

    key: Key
    samples: int
    shared: bool
    batch_dim: int
    memory: int


class Traced:
    """Inputs for a traced program; `numbers` are theirs, int64."""

    def __init__(self, program: Program, leaves: list[Any], numbers: Integers, settings: Settings) -> None:
        self.rows = len(numbers)
        self._program, self._numbers, self._settings = program, numbers, settings
        tensors = [one for one in leaves if isinstance(one, Tensor)]
        batch = settings.batch_dim
        # Each input in front, with a batch of one of its own.
        inputs = [t.movedim(batch, 0).unsqueeze(batch + 1).contiguous() for t in tensors]
        self._known = program.prefix(inputs)

    @staticmethod
    def most_rows(program: Program, samples: int, memory: int) -> int:
        """Tells how many inputs can be held, with one sample at a time."""
        each = program.bytes_input + program.bytes_sample + samples * program.bytes_output
        if each > memory:
            raise ValueError(
                f"memory={memory} bytes are too few: one input takes {each}, for what is computed once "
                f"({program.bytes_input}), one sample ({program.bytes_sample}) and its {samples} outputs"
            )
        return max(1, memory // each)

    @staticmethod
    def agrees(program: Program, inputs: Sequence[Tensor], key: Tensor, wanted: Tensor) -> bool:
        """Tells whether the trace gives the model's own result for an input that it was not made with."""
        known = program.prefix([one.unsqueeze(0) for one in inputs])
        got = program.samples(known, key.expand(1, 1, 2), False)[0, 0]
        wide = torch.promote_types(wanted.dtype, torch.float32)
        loose = 1e-3 if wanted.dtype in (torch.float32, torch.float64) else 0.1
        return torch.allclose(got.to(wide), wanted.to(wide), rtol=loose, atol=loose, equal_nan=True)

    def draw(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Samples number first … stop − 1."""
        settings, program = self._settings, self._program
        held = self.rows * (program.bytes_input + settings.samples * program.bytes_output)
        free = min(settings.memory - held, _WORK)
        at_once = max(1, free // (self.rows * program.bytes_sample or 1))
        drawn: npt.NDArray[Any] | None = None
        for begin in range(first, stop, at_once):
            keys = self._keys(begin, min(begin + at_once, stop))
            out = as_array(
                program.samples(self._known, keys, settings.shared).squeeze(settings.batch_dim + 2)
            )
            if drawn is None:
                drawn = np.empty((stop - first, *out.shape[1:]), out.dtype)
            # Copied: an output may be a small view of much that is to be freed.
            drawn[begin - first : begin - first + len(out)] = out
        assert drawn is not None
        return drawn

    def _keys(self, first: int, stop: int) -> Tensor:
        """Returns keys of samples and inputs, (samples, inputs, 2); (samples, 2) where inputs share them."""
        numbers = b"" if self._settings.shared else self._numbers.tobytes()
        make = _kept_keys if len(numbers) * (stop - first) <= _KEPT else _new_keys
        return make(self._settings.key, first, stop, numbers)


def _new_keys(key: Key, first: int, stop: int, numbers: bytes) -> Tensor:
    streams = _keys.fold(key.seed, key.stream, np.arange(first, stop))
    if numbers:
        streams = _keys.fold(key.seed, streams[:, np.newaxis], np.frombuffer(numbers, np.int64))
    return torch.from_numpy(_keys.pairs(key.seed, streams))


# A service predicts input after input with the keys of one: 60 µs of a call's 600.
_kept_keys = functools.lru_cache(maxsize=16)(_new_keys)


class Direct:
    """Inputs for the model itself: one at a time, one sample at a time."""

    def __init__(
        self, forward: Callable[..., Tensor], leaves: list[Any], numbers: Integers, settings: Settings
    ) -> None:
        self.rows = len(numbers)
        self._forward, self._numbers, self._settings = forward, numbers.tolist(), settings
        self._tensors = [one for one in leaves if isinstance(one, Tensor)]

    def draw(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Samples number first … stop − 1."""
        found = [[self._one(k, row) for row in range(self.rows)] for k in range(first, stop)]
        return np.array(found)

    def _one(self, sample: int, row: int) -> npt.NDArray[Any]:
        settings = self._settings
        key = settings.key.fold(sample)
        key = key if settings.shared else key.fold(self._numbers[row])
        inputs = cut(self._tensors, row, row + 1, settings.batch_dim)
        return as_array(self._forward(*inputs, key).squeeze(settings.batch_dim))
