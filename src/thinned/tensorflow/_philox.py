"""Philox4x32-10 is written here in TensorFlow's own operators (CONTRACT.md, section 2).

A 32-bit word travels in an int64; the product of two of them wraps as the contract's 64-bit product does.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned._philox import rounds
from thinned.contract import KEY_INCREMENTS, MULTIPLIERS, PURPOSE_FOLD, WORD


def call(low: Any, high: Any, key: Any) -> tuple[Any, Any, Any, Any]:
    """Four words for the counters (low, high, stream): int64 tensors of one shape, or that broadcast."""
    # Each number is one node: with one wherever it is used, a dropout has twice as many.
    word, half = int64(WORD), int64(32)
    m0, m1, w0, w1 = (int64(number) for number in (*MULTIPLIERS, *KEY_INCREMENTS))

    def upper(number: Any) -> Any:
        return tf.bitwise.right_shift(number, half) & word

    def product(a: Any, b: Any) -> tuple[Any, Any]:
        both = a * b
        return upper(both), both & word

    lows, highs = key & word, upper(key)
    counter = (low, high, lows[1], highs[1])
    return rounds(counter, (lows[0], highs[0]), (m0, m1), (w0, w1), product, lambda sum: sum & word)


def fold(key: Any, data: Any) -> Any:
    """`Key.fold` of an int64 tensor (seed, stream) and a number in [0, 2^60), an int64 tensor (section 5)."""
    low, high = words(data)
    w0, w1, _, _ = call(low, high + (PURPOSE_FOLD << 28), key)
    return tf.stack([key[0], w0 | tf.bitwise.left_shift(w1, int64(32))])


def words(number: Any) -> tuple[Any, Any]:
    """Low and high word of 64-bit numbers as two's complement."""
    return number & WORD, shift(number, 32) & WORD


def shift(number: Any, by: Any) -> Any:
    """To the right, by a number of bits that may differ from element to element."""
    return tf.bitwise.right_shift(number, int64(by))


def int64(number: Any) -> Any:
    """Returns a tensor. A number is never int32 on the way: it may not fit."""
    return tf.convert_to_tensor(number, tf.int64)
