"""This file is the mask contract in plain NumPy, to be read beside CONTRACT.md line by line.

This is the definition that every kernel and every front end is tested against for equal bits. It is written
to be checked, not to be fast.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinned._quantile import normal_quantile

UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

CONTRACT_VERSION = 1

# Section 6: what the sixteen purposes of one position are for.
PURPOSE_HIGH, PURPOSE_LOW = 0, 1
PURPOSE_NOISE_HIGH, PURPOSE_NOISE_LOW = 2, 3
PURPOSE_ROUNDING = 4
PURPOSE_FOLD = 15

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF


# Section 2: random numbers.


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10: four 32-bit output words from four counter words and two key words.

    Args:
        counter: four words in [0, 2^32): Python integers, or uint64 arrays that broadcast together.
        key: two words in [0, 2^32).

    Returns:
        Four words of the same kind, each in [0, 2^32).

    Source:
        Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; section 2.

    Example:
        >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0 = c0 * MULTIPLIERS[0]
        product1 = c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & WORD,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & WORD,
        )
        k0 = (k0 + KEY_INCREMENTS[0]) & WORD
        k1 = (k1 + KEY_INCREMENTS[1]) & WORD
    return c0, c1, c2, c3


def block_words(key: Key, block: Any, purpose: int) -> tuple[Any, Any, Any, Any]:
    """The four words that serve the eight positions of a block (b = position >> 3), or of many."""
    counter = (block & WORD, (block >> 32) + (purpose << 28), key.stream & WORD, key.stream >> 32)
    return philox(counter, (key.seed & WORD, key.seed >> 32))


def halfword(key: Key, positions: Any, purpose: int) -> UInt64s:
    """h_t(i): halfword i mod 8 of the block's output, low half first (section 2)."""
    i = np.asarray(positions, dtype=np.uint64)
    if not i.ndim:  # NumPy 1 makes float64 of a uint64 without dimensions and a Python integer
        return halfword(key, i[np.newaxis], purpose).reshape(())
    words = np.stack(np.broadcast_arrays(*block_words(key, i >> 3, purpose)))
    index = ((i & 7) >> 1).astype(np.intp)
    word = np.take_along_axis(words, index[np.newaxis], axis=0)[0]
    halves: UInt64s = word >> (16 * (i & 1)) & 0xFFFF
    return halves


def _number(key: Key, positions: Any, high: int, low: int) -> UInt64s:
    """The 32-bit number of two purposes' halfwords, u(i) or v(i)."""
    number: UInt64s = halfword(key, positions, high) << np.uint64(16) | halfword(key, positions, low)
    return number


# Section 3: the mask.


def threshold(p: float) -> int:
    """D(p), the drop threshold: a position is kept where its 32-bit number is at least D.

    Args:
        p: drop probability, a real number in [0, 1]. A float32's 0.1 is taken as the number it holds.

    Returns:
        p · 2^32 to the nearest integer, ties to even, in [0, 2^32].

    Raises:
        TypeError: `p must be a real number, got …`, for a bool, a string, None or a complex number.
        ValueError: `p must be in [0, 1], got …`, also for NaN and infinities.

    Source:
        CONTRACT.md, section 3.

    Example:
        >>> threshold(0.1)
        429496730
    """
    return round(check_probability(p) * 2.0**32)


def keep(key: Key, positions: Any, drop_threshold: int) -> Bools:
    """Kept iff u(i) = h_0(i) · 2^16 + h_1(i) is at least the threshold (section 3)."""
    u = _number(key, positions, PURPOSE_HIGH, PURPOSE_LOW)
    kept: Bools = u >= drop_threshold
    return kept


# Section 4: the value.


def keep_probability(drop_threshold: int) -> float:
    """The realised keep probability q = 1 − D/2^32, in double."""
    return 1.0 - drop_threshold / 2.0**32


def scale(p: float) -> float:
    """The factor s of kept values under inverted dropout.

    Args:
        p: drop probability, a real number in [0, 1].

    Returns:
        2^32 / (2^32 − D(p)), in double. At p = 1, where nothing is kept, 0.0 (as in torch), so that
        mask · scale stays finite.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014, section 10 (inverted scaling).

    Example:
        >>> scale(0.5)
        2.0
    """
    return inverse_scale(threshold(p))


def inverse_scale(drop_threshold: int) -> float:
    """2^32 / (2^32 − D), or 0.0 where nothing is kept."""
    kept = 2**32 - drop_threshold
    return 2.0**32 / kept if kept else 0.0


def multiply(x: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    """X times the factor as section 4 rounds it: once, and float16 and bfloat16 by way of float32.

    A bfloat16 array is any whose dtype is called that (ml_dtypes, or a framework's).
    """
    with np.errstate(all="ignore"):
        if x.dtype == np.float64:
            return np.asarray(x * np.float64(factor))
        if x.dtype.name == "bfloat16":
            wide = widen_bfloat16(x.view(np.uint16)) * np.float32(factor)
            return round_bfloat16(wide).view(x.dtype)
        return np.asarray(x.astype(np.float32) * np.float32(factor)).astype(x.dtype)


def widen_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 numbers that bfloat16 bit patterns stand for."""
    return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_bfloat16(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bit patterns of float32 numbers rounded to bfloat16, ties to even; a NaN stays a NaN."""
    bits = np.asarray(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    nearest = (bits.astype(np.uint64) + np.uint64(0x7FFF) + odd) >> np.uint64(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(x), quiet, nearest).astype(np.uint16)


def apply_mask(x: npt.NDArray[Any], kept: Bools, factor: float) -> npt.NDArray[Any]:
    """Kept → x · factor, dropped → +0.0 exactly, whatever x is."""
    return np.where(kept, multiply(x, factor), np.zeros((), dtype=x.dtype))


# Sections 1 and 5: keys.


@dataclass(frozen=True, slots=True)
class Key:
    """Holds what a mask is drawn from: a seed and a stream.

    Args:
        seed: integer in [0, 2^64).
        stream: integer in [0, 2^64). Independent streams of one seed are best made by `fold`.

    Raises:
        TypeError: `seed must be an integer, got …`.
        ValueError: `seed must be in [0, 2^64), got …`.

    Source:
        CONTRACT.md, sections 1 and 5.

    Example:
        >>> Key(1).fold("encoder.0.dropout").fold(17).seed
        1
    """

    seed: int
    stream: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "stream"):
            value = getattr(self, name)
            if type(value) is not int:
                value = check_integer(name, value)
                object.__setattr__(self, name, value)
            if not 0 <= value < 2**64:
                raise ValueError(f"{name} must be in [0, 2^64), got {value}")

    def fold(self, data: int | str) -> Key:
        """A new key of the same seed: give every layer, step, rank and sample its own.

        Args:
            data: integer in [0, 2^60), or a string (its SHA-256 is used).

        Returns:
            A key with the same seed and a stream that depends on this stream and on `data`.

        Raises:
            TypeError: `data must be an integer or a string, got …`.
            ValueError: `data must be in [0, 2^60), got …`.

        Source:
            CONTRACT.md, section 5.

        Example:
            >>> Key(1, 0).fold(0)
            Key(seed=1, stream=10219199065749188407)
        """
        w0, w1, _, _ = block_words(self, fold_number(data), PURPOSE_FOLD)
        return Key(self.seed, w0 | w1 << 32)


def fold_number(data: int | str) -> int:
    """The integer in [0, 2^60) that `Key.fold` folds in: data itself, or 60 bits of a string's SHA-256."""
    if isinstance(data, str):
        digest = hashlib.sha256(data.encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "little") >> 4
    number = check_integer("data", data, "an integer or a string")
    if not 0 <= number < 2**60:
        raise ValueError(f"data must be in [0, 2^60), got {number}")
    return number


# Section 6: noise.


def normal(key: Key, positions: Any) -> npt.NDArray[np.float32]:
    """Standard normal deviates: z(i) = Φ⁻¹((v(i) + ½) / 2^32), v(i) the second 32-bit number of position i.

    Args:
        key: seed and stream.
        positions: integers in [0, 2^63), an array of any shape.

    Returns:
        float32, of the shape of `positions`: Φ⁻¹ in double, rounded once; |z| is at most 6.34.

    Source:
        CONTRACT.md, section 6; Wichura, algorithm AS 241, Applied Statistics 37 (1988), 477-484.

    Example:
        >>> normal(Key(0), [0, 1, 2]).tolist()
        [0.7659636735916138, -0.9756712317466736, -1.008414626121521]
    """
    v = _number(key, positions, PURPOSE_NOISE_HIGH, PURPOSE_NOISE_LOW)
    q = np.asarray((v.astype(np.float64) + 0.5) / 2.0**32 - 0.5)
    return normal_quantile(q.reshape(-1)).astype(np.float32).reshape(q.shape)


# What every argument of the contract must be.


def check_integer(name: str, value: Any, kind: str = "an integer") -> int:
    """An int, from anything that is an integer and no bool."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {kind}, got {value!r}") from None


def check_probability(value: Any, name: str = "p") -> float:
    """The double that a probability holds, after a check of its type and range."""
    number: float = value if type(value) is float else _as_double(value, name)
    if not 0.0 <= number <= 1.0:  # NaN compares false
        raise ValueError(f"{name} must be in [0, 1], got {number}")
    return number


def _as_double(value: Any, name: str) -> float:
    """A double from any real number: Python's, NumPy's, or an array or tensor of no dimension."""
    if type(value) is int:  # said apart, as torch.compile can trace no more than this
        return float(value) if -(2**62) < value < 2**62 else float("inf")  # no double holds 10**400
    kind = str(getattr(value, "dtype", type(value).__name__))
    if ("float" in kind or "int" in kind) and not np.ndim(value):
        return float(value)
    raise TypeError(f"{name} must be a real number, got {value!r}")
