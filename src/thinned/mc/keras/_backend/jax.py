"""On JAX keys are mapped over, and variables are arguments of what is compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinned._position import row_major
from thinned.contract import WORD
from thinned.jax import _dropout, _numbers

BYTES = 0  # the kernel makes no mask


def keys(pairs: Any) -> jax.Array:
    """Returns keys as uint32, four words for each."""
    wide = pairs.view(np.uint64)
    halves = np.stack([wide & np.uint64(WORD), wide >> np.uint64(32)], axis=-1)
    return jnp.asarray(halves.astype(np.uint32).reshape(*pairs.shape[:-1], 4))


def dropout(x: Any, p: float, keys: Any, noise_shape: Any, inverted: bool) -> Any:
    """Key k drops x[k], positions counted from 0 in each."""
    mode: Any = "inverted" if inverted else "classic"

    def one(x: Any, key: Any) -> Any:
        return _dropout.dropout(x, p, key=key, training=True, noise_shape=noise_shape, mode=mode)

    return jax.vmap(one)(x, keys)


def normal(shape: tuple[int, ...], keys: Any) -> Any:
    """Normal deviates of each key, float32, shape (keys, *shape)."""
    start = np.zeros((len(shape), 2), np.uint32)
    return jax.vmap(lambda key: _numbers.normal(shape, row_major(shape), key, start))(keys)


def single(keys: Any) -> Any:
    """The only key."""
    return keys[0]


def values(variables: list[Any]) -> list[Any]:
    """Returns the values of all variables."""
    return [variable.value for variable in variables]


def look(function: Callable[..., Any], found: list[int], x: Any) -> None:
    """Trace it: operation by operation JAX would compile each."""
    jax.eval_shape(functools.partial(function, found), x)


def quiet() -> Any:
    """JAX computes no gradient that it is not asked for."""
    return nullcontext()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles by XLA."""
    return jax.jit(function)
