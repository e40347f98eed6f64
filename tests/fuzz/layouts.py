"""Arrays in every layout that NumPy and torch can make, each with a copy of the memory that it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass
class View:
    """An array, and what is needed to lay the same out over other memory: all in bytes."""

    memory: np.ndarray  # uint8
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: np.dtype

    def over(self, memory: np.ndarray) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, memory, self.offset, self.strides)

    @property
    def array(self) -> np.ndarray:
        return self.over(self.memory)

    def touched(self) -> np.ndarray:
        """How many elements each byte of the memory belongs to."""
        offsets = np.full(self.shape, self.offset)
        for axis, (size, step) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(size) * step
            offsets = offsets + steps.reshape((-1,) + (1,) * (len(self.shape) - axis - 1))
        counts = np.zeros(self.memory.size, np.int64)
        for byte in range(self.dtype.itemsize):
            np.add.at(counts, offsets.reshape(-1) + byte, 1)
        return counts


def numbers(rng: np.random.Generator, n: int, dtype: np.dtype) -> np.ndarray:
    """Ordinary numbers, one in four of any bits: subnormal, infinite, NaN."""
    values = rng.standard_normal(n).astype(dtype)
    odd = rng.random(n) < 0.25
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize) - 1, n, dtype=np.uint64, endpoint=True)
    subnormal = rng.random(n) < 0.5
    if dtype.itemsize == 4:
        bits = np.where(subnormal, bits & np.uint64(0x807FFFFF), bits)
    raw = values.view(_BITS[dtype.itemsize])
    raw[odd] = bits[odd].astype(raw.dtype)
    return values


def view(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, *, torch: bool = False) -> View:
    """A view of that shape: permuted, with gaps, reversed, broadcast, windows, a field of a structure.

    Torch has no negative strides, and none that are no multiple of an element.
    """
    rank, item = len(shape), dtype.itemsize
    before, after = (0, 0) if torch or rng.random() < 0.85 else rng.integers(0, 8, 2)
    unit = int(item + before + after)  # a structure of which the element is one field
    order = rng.permutation(rank) if rng.random() < 0.5 else np.arange(rank)
    plain = rng.random() < 0.35
    choices = [1, 1, 1, 2, 3] if torch else [1, 1, 1, 2, 3, -1, -2]
    strides, first, step = [0] * rank, 0, unit
    for axis in reversed(order):
        by = 1 if plain else int(rng.choice(choices))
        padding = 0 if plain else int(rng.integers(0, 3)) * (rng.random() < 0.3)
        if not plain and rng.random() < 0.07:
            continue  # broadcast
        strides[axis] = step * by
        span = (max(shape[axis], 1) - 1) * abs(by) + 1
        first += step * (span - 1) if by < 0 else 0
        step *= span + padding
    offset = first + int(before)
    if rank and rng.random() < 0.04:  # windows: neighbours share elements
        axis, other = rng.integers(0, rank, 2)
        strides[axis] = strides[other]
        offset += max(0, -strides[axis] * max(shape[axis] - 1, 0))
    if rng.random() < 0.05:
        offset += int(rng.integers(1, item))  # not aligned
    reach = offset + item + sum(max(n - 1, 0) * max(s, 0) for n, s in zip(shape, strides, strict=True))
    total = -(-(reach + 64) // item) * item
    memory = numbers(rng, total // item, dtype).view(np.uint8)
    # Values where the elements lie, whatever else the bytes mean.
    made = View(memory, shape, tuple(strides), offset, dtype)
    if all(shape):
        made.array[...] = numbers(rng, int(np.prod(shape)), dtype).reshape(shape)
    return made


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits; of a NaN only that it is one."""
    raw = _BITS[expected.dtype.itemsize]
    a, b = np.array(got, order="C"), np.array(expected, order="C")
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    with np.errstate(all="ignore"):
        nan = np.isnan(b.astype(np.float64))
        if not np.array_equal(np.isnan(a.astype(np.float64)), nan):
            return False
    return bool(np.array_equal(a.view(raw)[~nan], b.view(raw)[~nan]))


def as_torch(view: View) -> Any:
    """The tensor over the same memory."""
    import torch

    item = view.dtype.itemsize
    of = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16}
    dtype = of.get(view.dtype.name, torch.bfloat16)
    odd = view.offset % item
    flat = torch.frombuffer(view.memory, dtype=dtype, offset=odd, count=(view.memory.size - odd) // item)
    return flat.as_strided(view.shape, [step // item for step in view.strides], view.offset // item)


def as_numpy(tensor: Any, dtype: np.dtype) -> np.ndarray:
    """The values of a tensor of any layout."""
    import torch

    raw = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    return tensor.detach().contiguous().view(raw).numpy().view(dtype)
