"""A key is an array here: the four words of a `Key`, or of a jax PRNG key, as uint32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned.contract import PURPOSE_FOLD, Key, fold_number
from thinned.jax._philox import halves, philox, traced_halves
from thinned.jax._types import AnyKey

_REMEDY = "pass a thinned.Key, a jax PRNG key (jax.random.key(seed)) or a uint32 array of shape (4,)"


def words(key: Any, name: str = "key") -> Any:
    """The words of one key: seed low, seed high, stream low, stream high; uint32, shape (4,).

    One rule for a PRNG key, typed or raw: two words are a seed, high word first, as `jax.random.key(42)`
    holds it; four are the words themselves.
    """
    if isinstance(key, Key):
        return halves((key.seed, key.stream)).reshape(4)
    if not isinstance(key, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be a key, got {key!r}: {_REMEDY}")
    if is_typed(key):
        data = jax.random.key_data(key)
        return _of_data(data, f"a PRNG key of shape {key.shape} and {data.shape[-1]} words", name)
    if key.dtype != np.uint32:
        raise TypeError(f"{name} must be uint32 words, got {key.dtype}: {_REMEDY}")
    return _of_data(key, f"uint32 of shape {key.shape}", name)


def _of_data(data: Any, what: str, name: str) -> Any:
    if data.shape == (4,):
        return data
    if data.shape == (2,):
        return jnp.stack([data[1], data[0], jnp.uint32(0), jnp.uint32(0)])
    raise ValueError(f"{name} must be one key, got {what}: {_REMEDY}, and jax.vmap for many")


def is_typed(key: Any) -> bool:
    """Tells whether it is a key of `jax.random.key`, and no bare words."""
    return isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def spend(key: Any) -> None:
    """Tell JAX's checker of keys that are used twice, where `jax.debug_key_reuse` has switched it on.

    It knows of its own draws only, so it is shown one. A fold uses no key up, as with `jax.random.fold_in`.
    """
    if getattr(jax.config, "jax_debug_key_reuse", False) and is_typed(key):
        jax.random.bits(key)


def fold(key: AnyKey, data: ArrayLike | str) -> jax.Array:
    """Derive a key from a key, as `Key.fold` does, where either may be traced.

    Args:
        key: a `thinned.Key`, a jax PRNG key or a uint32 array of shape (4,).
        data: a string, an integer in [0, 2^60), or a traced integer of any type, which nothing can check: it
            is to be in [0, 2^60) too.

    Returns:
        uint32, shape (4,): seed low, seed high, stream low, stream high.

    Raises:
        TypeError: `key must be a key, got …`; `data must be …`.
        ValueError: `data must be in [0, 2^60), got …`.

    Source:
        CONTRACT.md, section 5.

    Example:
        >>> import jax
        >>> from thinned import Key
        >>> from thinned.jax import keep_mask
        >>> mask = lambda step: keep_mask((1000,), 0.1, key=fold(Key(1), step))
        >>> bool((jax.jit(mask)(3) == keep_mask((1000,), 0.1, key=Key(1).fold(3))).all())
        True
    """
    low, high = _number(data)
    k = jnp.asarray(words(key))
    counter = (low, high + np.uint32(PURPOSE_FOLD << 28), k[2], k[3])
    out = philox(counter, k[0], k[1])
    return jnp.stack([k[0], k[1], out[0], out[1]])


def _number(data: Any) -> tuple[Any, Any]:
    if isinstance(data, jax.core.Tracer) and not data.shape:
        if not jnp.issubdtype(data.dtype, np.integer):
            raise TypeError(f"data must be a string or an integer, got {data.dtype}")
        return traced_halves(data)
    low, high = halves(fold_number(data))
    return low, high
