"""Philox4x32-10 is written here in any library's operators (CONTRACT.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thinned.contract import ROUNDS

Words = tuple[Any, Any, Any, Any]
Pair = tuple[Any, Any]


def rounds(
    counter: Words,
    key: Pair,
    multipliers: Pair,
    increments: Pair,
    product: Callable[[Any, Any], Pair],
    word: Callable[[Any], Any],
) -> Words:
    """Turn counters into random words.

    Args:
        counter: four words, of one shape or of shapes that broadcast.
        key: two words.
        multipliers: the contract's, in the library's type.
        increments: the contract's, in the library's type.
        product: of a word and a multiplier, as its high and its low word.
        word: a sum modulo 2^32.

    Returns:
        Four words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = product(c0, multipliers[0]), product(c2, multipliers[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = word(k0 + increments[0]), word(k1 + increments[1])
    return c0, c1, c2, c3


def halfword(words: Words, position: Any, where: Callable[..., Any], right: Callable[[Any, Any], Any]) -> Any:
    """Takes from each position's four words the halfword that belongs to the position.

    Args:
        words: of the positions' blocks.
        position: integers of the words' type; their low three bits count.
        where: the library's choice between two arrays.
        right: the library's shift to the right.
    """
    index = position & 7
    word = where(index < 4, where(index < 2, words[0], words[1]), where(index < 6, words[2], words[3]))
    return right(word, (index & 1) * 16) & 0xFFFF
