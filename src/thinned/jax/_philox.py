"""The mask is computed here in `jax.numpy`, for every platform.

Element by element, so that no part of a sharded mask needs a neighbour's words. In 64-bit integers, whatever
`jax_enable_x64` says: a position has 63 bits, a product of the generator 64.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned._philox import halfword as select
from thinned._philox import rounds
from thinned.contract import KEY_INCREMENTS, MULTIPLIERS, PURPOSE_HIGH, PURPOSE_LOW, WORD

_LOW = np.uint64(WORD)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def wide(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Give a function 64-bit types, which JAX otherwise narrows."""

    @functools.wraps(function)
    def widened(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return widened


@wide
def philox(counter: tuple[Any, Any, Any, Any], key0: Any, key1: Any) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10 of uint32 arrays that broadcast against each other (CONTRACT.md, section 2)."""
    multipliers = (np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1]))
    increments = (np.uint32(KEY_INCREMENTS[0]), np.uint32(KEY_INCREMENTS[1]))
    key = (jnp.uint32(key0), jnp.uint32(key1))
    return rounds(counter, key, multipliers, increments, _product, lambda sum: sum)


@wide
def keep(shape: tuple[int, ...], strides: tuple[int, ...], key: Any, threshold: Any, start: Any) -> Any:
    """Return where a mask keeps, for one mask or a batch of them.

    Args:
        shape: the batch's, then x's.
        strides: positions a step along each of x's dimensions; 0 where the decision is shared.
        key: uint32, shape (*batch, 4).
        threshold: uint32, shape (*batch, 2), low word first.
        start: uint32, shape (*batch, dimensions, 2): index of x's first element in the whole array.

    Returns:
        bool, of `shape`, or 1 where the decision is shared.
    """
    spread = (*key.shape[:-1], *(1,) * len(strides), 2)
    return at_least(numbers(shape, strides, key, start), threshold.reshape(spread))


@wide
def numbers(shape: tuple[int, ...], strides: tuple[int, ...], key: Any, start: Any) -> Any:
    """The numbers u of a mask's positions, uint32; arguments and shape as of `keep`."""
    spread = (*key.shape[:-1], *(1,) * len(strides))
    position = positions(shape, strides, spread, start)
    words = [key[..., k].reshape(spread) for k in range(4)]
    high, low = halfword(position, words, PURPOSE_HIGH), halfword(position, words, PURPOSE_LOW)
    return (high << np.uint32(16)) | low


@wide
def positions(shape: tuple[int, ...], strides: tuple[int, ...], spread: tuple[int, ...], start: Any) -> Any:
    """A mask's positions, uint64: 1 where shared; `spread` is the batch's shape, and 1 for each stride."""
    batch = spread[: len(spread) - len(strides)]
    own = tuple(size if step else 1 for size, step in zip(shape[len(batch) :], strides, strict=True))
    steps = [_size(step) for step in strides]
    position = jnp.zeros(spread, np.uint64)
    for d, (size, step) in enumerate(zip(own, steps, strict=True)):
        position = position + (pair(start[..., d, :]) * step).reshape(spread)
        if size != 1:
            small = isinstance(size, int) and size <= 2**32
            index = lax.broadcasted_iota(np.uint32 if small else np.uint64, (*batch, *own), len(batch) + d)
            position = position + index.astype(np.uint64) * step
    return jnp.broadcast_to(position, (*batch, *own))


def halves(numbers: Any) -> Any:
    """The low and the high word of 64-bit integers, along a new last axis; what `pair` puts together."""
    wide = np.array(numbers, np.uint64)
    return np.stack([wide & _LOW, wide >> np.uint64(32)], axis=-1).astype(np.uint32)


def traced_halves(number: Any) -> tuple[Any, Any]:
    """The low and the high word of a traced integer that is not negative."""
    if number.dtype.itemsize < 8:
        return number.astype(np.uint32), jnp.zeros_like(number, np.uint32)
    return (number & WORD).astype(np.uint32), (number >> 32).astype(np.uint32)


def _size(size: Any) -> Any:
    """A number of positions as uint64, also where `jax.export` gives dimensions names instead of sizes."""
    return np.uint64(size) if isinstance(size, int) else jnp.asarray(size).astype(np.uint64)


@wide
def at_least(numbers: Any, threshold: Any) -> Any:
    """Return where the numbers of positions are no less than a threshold in words, uint32 of shape (…, 2)."""
    return numbers.astype(np.uint64) >= pair(threshold)


@wide
def moved(start: Any, steps: Any) -> Any:
    """The index `start`, uint32 words of shape (dimensions, 2), further on by so many steps, integers."""
    return jnp.stack(traced_halves(pair(start) + jnp.asarray(steps).astype(np.uint64)), axis=-1)


def pair(words: Any) -> Any:
    """64-bit integers from their low and high words, along the last axis."""
    return words[..., 0].astype(np.uint64) | words[..., 1].astype(np.uint64) << np.uint64(32)


def _product(a: Any, b: np.uint64) -> tuple[Any, Any]:
    product = jnp.asarray(a).astype(np.uint64) * b
    return (product >> np.uint64(32)).astype(np.uint32), (product & _LOW).astype(np.uint32)


def halfword(position: Any, words: list[Any], purpose: int) -> Any:
    """`contract.halfword` of uint64 positions and a key's four words."""
    block = position >> np.uint64(3)
    low, high = (block & _LOW).astype(np.uint32), (block >> np.uint64(32)).astype(np.uint32)
    out = philox((low, high + np.uint32(purpose << 28), words[2], words[3]), words[0], words[1])
    place = (position & np.uint64(7)).astype(np.uint32)
    return select(out, place, jnp.where, operator.rshift)
