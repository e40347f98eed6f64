"""The kernel's functions are written here in plain NumPy, for machines without it: slower, same bits.

Like the native module it is given addresses, and the caller answers for their shapes, types and lifetimes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thinned import _fixed
from thinned._environment import ieee
from thinned.contract import (
    PURPOSE_HIGH,
    PURPOSE_LOW,
    Bools,
    Key,
    block_words,
    keep,
    multiply,
    round_bfloat16,
    widen_bfloat16,
)
from thinned.contract import normal as normal_deviates

_DTYPES = (np.float32, np.float64, np.float16, np.uint16, np.bool_)
_BFLOAT16, _MASK = 3, 4
_CHUNK = 1 << 18  # positions at a time: bounds the memory of the intermediate words


def address(array: npt.NDArray[Any]) -> int:
    """Return where an array's elements begin."""
    return int(array.ctypes.data)


def dense(
    dtype: int,
    x: int,
    out: int,
    n: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None:
    """Contiguous x and out, positions base … base + n − 1."""
    strided(dtype, x, out, (n,), (1,), (1,), (1,), base, seed, stream, threshold, scale, threads)


@ieee()
def strided(
    dtype: int,
    x: int,
    out: int,
    shape: Sequence[int],
    x_strides: Sequence[int],
    out_strides: Sequence[int],
    position_strides: Sequence[int],
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None:
    """Any strides, in elements and in positions."""
    target = _array_at(out, dtype, shape, out_strides)
    source = target if dtype == _MASK else _array_at(x, dtype, shape, x_strides)
    _fill(source, target, dtype, position_strides, base, Key(seed, stream), threshold, scale)


@ieee()
def add(
    dtype: int,
    x: int,
    residual: int,
    out: int,
    n: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    scale: float,
    threads: int,
) -> None:
    """Write what `dense` does, plus the residual: each of the two steps rounded to the type."""
    source, more, target = (_array_at(address, dtype, (n,), (1,)) for address in (x, residual, out))
    for first in range(0, n, _CHUNK):
        part = slice(first, first + _CHUNK)
        thin = np.empty_like(source[part])
        _fill(source[part], thin, dtype, (1,), base + first, Key(seed, stream), threshold, scale)
        target[part] = _sum(thin, more[part], dtype)


@ieee()
def normal(
    out: int,
    shape: Sequence[int],
    strides: Sequence[int],
    base: int,
    seed: int,
    stream: int,
    threads: int,
) -> None:
    """Normal deviates into a contiguous float32 array; strides in positions, 0 where one is shared."""
    _fill_normal(_array_at(out, 0, shape, _c_strides(shape)), strides, base, Key(seed, stream))


def fold(seed: int, stream: int, data: int) -> int:
    """The stream of `Key(seed, stream).fold(data)`, for an integer that Key.fold would take."""
    return Key(seed, stream).fold(data).stream


@ieee()
def many(
    dtype: int,
    x: int,
    out: int,
    outer: int,
    inner: int,
    x_outer: int,
    x_inner: int,
    shape: Sequence[int],
    position_strides: Sequence[int],
    base: int,
    keys: int,
    threshold: int,
    scale: float,
    each: int,
    threads: int,
) -> None:
    """Rows of one shape, each with a key of its own; strides between them in elements, 0 where shared.

    `each` is 0, or the address of what stands in place of base, threshold and scale for each row.
    """
    steps = _c_strides(shape)
    source = _array_at(x, dtype, (outer, inner, *shape), (x_outer, x_inner, *steps))
    rows = (inner * math.prod(shape), math.prod(shape))
    target = _array_at(out, dtype, (outer, inner, *shape), (*rows, *steps))
    for k, key in enumerate(_keys_at(keys, outer * inner)):
        row = (*divmod(k, inner), ...)  # a row of no dimensions is an array too
        if each:
            words = _words_at(each, 3 * outer * inner)[3 * k : 3 * k + 3]
            base, threshold, scale = int(words[0]), int(words[1]), float(words[2:].view(np.float64)[0])
        _fill(source[row], target[row], dtype, position_strides, base, key, threshold, scale)


def fold_many(keys: int, data: int, out: int, n: int) -> None:
    """Keys folded, each by its own number: seeds and streams in, seeds and streams out, as uint64."""
    folded = _words_at(out, 2 * n)
    for k, (key, number) in enumerate(zip(_keys_at(keys, n), _words_at(data, n).tolist(), strict=True)):
        folded[2 * k : 2 * k + 2] = key.seed, key.fold(number).stream


def kept(seed: int, stream: int, threshold: int, rows: int, size: int) -> list[bytearray]:
    """The numbers that each row keeps, ascending, as the bytes of int64."""
    masks = keep(Key(seed, stream), np.arange(rows * size).reshape(rows, size), threshold)
    return [bytearray(mask.nonzero()[0].astype(np.int64).tobytes()) for mask in masks]


def largest(seed: int, stream: int, rows: int, size: int, count: int, out: int) -> None:
    """The positions of the largest numbers of each row, ascending, as int64."""
    kept = _fixed.largest(Key(seed, stream), rows, size, count)
    _array_at(out, 1, (rows, count), (count, 1)).view(np.int64)[...] = kept


@ieee()
def dots(
    x: int,
    w: int,
    out: int,
    n: int,
    draws: int,
    base: int,
    seed: int,
    stream: int,
    threshold: int,
    threads: int,
) -> None:
    """Sums of w · x over what each of the draws keeps; draw d begins at position base + d · n."""
    source, weights = (_array_at(address, 0, (n,), (1,)) for address in (x, w))
    sums, thin = _array_at(out, 1, (draws,), (1,)), np.empty(n, dtype=np.float32)
    for d in range(draws):
        _fill(source, thin, 0, (1,), base + d * n, Key(seed, stream), threshold, 1.0)
        sums[d] = np.dot(thin.astype(np.float64), weights.astype(np.float64))


def _fill(
    x: npt.NDArray[Any],
    out: npt.NDArray[Any],
    dtype: int,
    strides: Sequence[int],
    base: int,
    key: Key,
    threshold: int,
    scale: float,
) -> None:
    if out.size > _CHUNK:
        for index, first in _halves(out.shape, strides, base):
            _fill(x[index], out[index], dtype, strides, first, key, threshold, scale)
        return
    kept = _kept(out.shape, strides, base, key, threshold)
    if dtype == _MASK:
        out[...] = kept
        return
    if dtype == _BFLOAT16:
        with np.errstate(all="ignore"):
            value = round_bfloat16(widen_bfloat16(x) * np.float32(scale))
    else:
        value = multiply(x, scale)
    out[...] = np.where(kept, value, np.zeros((), dtype=out.dtype))


def _fill_normal(out: npt.NDArray[Any], strides: Sequence[int], base: int, key: Key) -> None:
    if out.size > _CHUNK:
        for index, first in _halves(out.shape, strides, base):
            _fill_normal(out[index], strides, first, key)
    elif out.size:
        out[...] = normal_deviates(key, _positions(out.shape, strides, base))


def _halves(
    shape: Sequence[int], strides: Sequence[int], base: int
) -> Iterator[tuple[tuple[slice, ...], int]]:
    """The halves of an array's longest axis: an index, and the position at which it begins."""
    axis = int(np.argmax(shape))
    half = shape[axis] // 2
    for part, first in ((slice(None, half), 0), (slice(half, None), half)):
        yield (slice(None),) * axis + (part,), base + first * strides[axis]


def _kept(shape: Sequence[int], strides: Sequence[int], base: int, key: Key, threshold: int) -> Bools:
    if threshold in (0, 2**32) or not all(shape):
        return np.full(shape, threshold == 0)
    if len(shape) == 1 and strides[0] == 1:
        n = shape[0]
        u = _run(key, base, n, PURPOSE_HIGH) << 16 | _run(key, base, n, PURPOSE_LOW)
        return np.asarray(u >= threshold)
    return np.broadcast_to(keep(key, _positions(shape, strides, base), threshold), shape)


def _positions(shape: Sequence[int], strides: Sequence[int], base: int) -> npt.NDArray[np.uint64]:
    """The position of every element, of size 1 along what shares it."""
    position = np.full((1,) * len(shape), base, dtype=np.uint64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        steps = np.arange(size if stride else 1, dtype=np.uint64) * np.uint64(stride)
        position = position + steps.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    return position


def _sum(a: npt.NDArray[Any], b: npt.NDArray[Any], dtype: int) -> npt.NDArray[Any]:
    """The sum, rounded once to the type: NumPy too adds float16 in float32."""
    with np.errstate(all="ignore"):
        if dtype == _BFLOAT16:
            return round_bfloat16(widen_bfloat16(a) + widen_bfloat16(b))
        return np.asarray(a + b)


def _run(key: Key, start: int, n: int, purpose: int) -> npt.NDArray[np.uint64]:
    """Halfwords of n neighbouring positions: the output viewed as a little-endian uint16 array."""
    blocks = np.arange(start >> 3, ((start + n - 1) >> 3) + 1, dtype=np.uint64)
    words = np.stack(np.broadcast_arrays(*block_words(key, blocks, purpose)), axis=1).astype("<u4")
    return words.reshape(-1).view("<u2")[start & 7 :][:n].astype(np.uint64)


def _keys_at(address: int, n: int) -> list[Key]:
    return [Key(seed, stream) for seed, stream in _words_at(address, 2 * n).reshape(n, 2).tolist()]


def _words_at(address: int, n: int) -> npt.NDArray[np.uint64]:
    return _array_at(address, 1, (n,), (1,)).view(np.uint64)


def _c_strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _array_at(address: int, dtype: int, shape: Sequence[int], strides: Sequence[int]) -> npt.NDArray[Any]:
    item = np.dtype(_DTYPES[dtype])
    if not all(shape):
        return np.empty(shape, dtype=item)
    memory = memoryview((ctypes.c_char * item.itemsize).from_address(address)).cast("B")
    first: npt.NDArray[Any] = np.frombuffer(memory, dtype=item)
    steps = [stride * item.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(first, tuple(shape), steps)
