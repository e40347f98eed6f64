"""A drop probability, a number or a traced scalar, becomes a threshold and a scale here."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from thinned import contract
from thinned.jax._philox import halves, pair, wide

_INVALID = np.uint32(2**32 - 1)  # as a high word, greater than any threshold's


def threshold(p: Any) -> int | None:
    """D of p where its value is known here, checked; None where it is traced.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.
    """
    if not isinstance(p, jax.core.Tracer):
        return contract.threshold(p)  # an array of no dimension too
    if p.shape or not (jnp.issubdtype(p.dtype, np.floating) or jnp.issubdtype(p.dtype, np.integer)):
        got = f"{p.dtype} of shape {p.shape}"
        raise TypeError(f"p must be a real number, got {got}: jax.vmap gives each example its own")
    return None


def check(value: Any, name: str) -> Any:
    """A probability by another name than p: a number that is checked, or a traced rate."""
    if not isinstance(value, jax.core.Tracer):
        return contract.check_probability(value, name)
    if name == "keep_prob":
        raise TypeError("keep_prob must be a number, got a traced value: pass p=1 - keep_prob")
    return value


def thresholds(p: Any) -> Any:
    """D of p, a number or an array of at most four dimensions; None where it is traced.

    Raises:
        TypeError: as `threshold`; `dropout_p must be …`.
        ValueError: as `threshold`.
    """
    if not getattr(p, "ndim", 0):
        return threshold(p)
    if p.ndim > 4 or not jnp.issubdtype(p.dtype, np.floating):
        raise TypeError(
            "dropout_p must be a number, or a floating array that broadcasts to (B, N, T, S), got "
            f"{p.dtype} of shape {p.shape}"
        )
    if isinstance(p, jax.core.Tracer):
        return None
    values = np.asarray(p, np.float64)
    for worst in (values.min(initial=0.0), values.max(initial=0.0)):
        contract.threshold(float(worst))
    return np.rint(values * 2.0**32).astype(np.uint64)  # halves to even, as D's


def many_words(p: Any, drop: Any) -> Any:
    """The words of a p that `thresholds` takes: of shape (2,), or of the four dimensions of scores and 2."""
    whole = words(p, drop)
    return whole if whole.ndim == 1 else whole.reshape((1,) * (5 - whole.ndim) + whole.shape)


def words(p: Any, drop: Any) -> Any:
    """The threshold's low and high word, uint32 of shape (…, 2).

    A traced p outside [0, 1] has a high word of its own.
    """
    if drop is not None:
        return halves(drop)
    number = _fixed(p if p.dtype == np.float64 else p.astype(np.float32))
    # A product with a power of two is exact, and so is the rounding: D needs no wider type.
    scaled = lax.round(number * number.dtype.type(2.0**32), lax.RoundingMethod.TO_NEAREST_EVEN)
    whole = scaled >= 2.0**32
    low = jnp.where(whole, 0, scaled).astype(np.uint32)
    high = jnp.where((number >= 0) & (number <= 1), whole.astype(np.uint32), _INVALID)
    return jnp.stack([low, high], axis=-1)


@jax.custom_jvp
def _fixed(p: Any) -> Any:
    return p


@functools.partial(_fixed.defjvp, symbolic_zeros=True)
def _no_derivative(primals: Any, tangents: Any) -> Any:
    if not isinstance(tangents[0], SymbolicZero):
        raise TypeError("p has no gradient: a mask is not differentiable in p; pass jax.lax.stop_gradient(p)")
    return primals[0], tangents[0]


@wide
def scale(threshold: Any, dtype: np.dtype[Any]) -> Any:
    """2^32 / (2^32 − D), rounded to double and then to `dtype`.

    In integers, because some platforms have no double that rounds as IEEE says.

    Args:
        threshold: uint32, shape (…, 2), low word first.
        dtype: float32 or float64.
    """
    drop = pair(threshold)
    kept = jnp.maximum(np.uint64(2**32) - jnp.minimum(drop, np.uint64(2**32)), np.uint64(1))
    shift = lax.clz(kept) - np.uint64(31)
    divisor = kept << shift  # in [2^32, 2^33)
    first, rest = np.uint64(2**63) // divisor, np.uint64(2**63) % divisor
    rest = rest << np.uint64(31)
    quotient = (first << np.uint64(31)) + rest // divisor  # 2^94 / divisor, in (2^61, 2^62]
    digits, places = _rounded(quotient, 9, rest % divisor != 0), 53
    if dtype == np.float32:
        digits, places = _rounded(digits, 29, False), 24
    power = jnp.ldexp(jnp.ones((), dtype), shift.astype(np.int32) - places)
    return digits.astype(dtype) * power


@wide
def dropped(threshold: Any, dtype: Any) -> Any:
    """The value of a dropped position: 0, or NaN where p was outside [0, 1] and keeps nothing."""
    return jnp.where(pair(threshold) > np.uint64(2**32), np.nan, 0.0).astype(dtype)


@wide
def expectation(p: Any) -> Any:
    """The keep probability of a traced p for classic evaluation, 1 − D/2^32 in double; NaN outside [0, 1]."""
    drop = pair(words(p, None))
    kept = (np.uint64(2**32) - drop).astype(np.float64) * 2.0**-32
    return jnp.where(drop > np.uint64(2**32), np.nan, kept)


def _rounded(value: Any, bits: int, sticky: Any) -> Any:
    """Half to even, without the last bits; `sticky` says that more followed them."""
    half, rest, kept = (
        np.uint64(1 << (bits - 1)),
        value & np.uint64((1 << bits) - 1),
        value >> np.uint64(bits),
    )
    odd = (kept & np.uint64(1)) == 1
    return kept + ((rest > half) | ((rest == half) & (odd | sticky))).astype(np.uint64)
