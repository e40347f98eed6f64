"""The primitive `thinned_words` gives numbers of positions by a key, where no mask is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinned import _normal
from thinned.contract import PURPOSE_HIGH, PURPOSE_LOW, PURPOSE_NOISE_HIGH, PURPOSE_NOISE_LOW, WORD
from thinned.jax import _dropout, _philox
from thinned.jax._compat import Primitive, batching, mlir
from thinned.jax._primitive import _immediate, _in_front

MASK = (PURPOSE_HIGH, PURPOSE_LOW)
NOISE = (PURPOSE_NOISE_HIGH, PURPOSE_NOISE_LOW)

# Operands: keys, uint32 (*batch, 4); positions as words, uint32 (*batch, *shape, 2), low word first. Result:
# uint32 (*batch, *shape). Nothing of it has a derivative.
words_p = Primitive("thinned_words")


@_philox.wide
def _plain(key: Any, position: Any, *, purposes: tuple[int, int]) -> Any:
    spread = (*key.shape[:-1], *(1,) * (position.ndim - key.ndim))
    words = [key[..., k].reshape(spread) for k in range(4)]
    high, low = (_philox.halfword(_philox.pair(position), words, purpose) for purpose in purposes)
    return (high << np.uint32(16)) | low


def _batch(operands: Any, axes: Any, **parameters: Any) -> Any:
    moved, axis = _in_front(operands, axes)
    return words_p.bind(*moved, **parameters), axis


words_p.def_impl(_immediate(words_p, "purposes"))
words_p.def_abstract_eval(
    lambda key, position, *, purposes: position.update(
        shape=position.shape[:-1], dtype=np.dtype(np.uint32), weak_type=False
    )
)
batching.primitive_batchers[words_p] = _batch
mlir.register_lowering(words_p, mlir.lower_fun(_plain, multiple_results=False))


def words_at(position: Any, key: Any, purposes: tuple[int, int] = MASK) -> Any:
    """The 32-bit numbers, uint32, of positions that are given, uint64 of any shape; in 64-bit mode."""
    halves = jnp.stack([position & np.uint64(WORD), position >> np.uint64(32)], -1).astype(np.uint32)
    return words_p.bind(*_dropout.alike(key, halves), purposes=purposes)


@_philox.wide
def words(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    key: Any,
    start: Any,
    purposes: tuple[int, int] = MASK,
) -> Any:
    """The numbers of a mask's positions, uint32: 1 where they are shared. Arguments as `_philox.keep`'s."""
    position = _philox.positions(shape, strides, (1,) * len(shape), jnp.asarray(start))
    return words_at(position, key, purposes)


@_philox.wide
def normal(shape: tuple[int, ...], strides: tuple[int, ...], key: Any, start: Any) -> Any:
    """Normal deviates of a mask's positions, float32."""
    drawn = words(shape, strides, key, start, NOISE)
    deviates = _normal.quantile(drawn.astype(np.float64), jnp.where, jnp.sqrt, jnp.log)
    return deviates.astype(np.float32)


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that computes everything again for its gradient; keyword arguments are static."""

    def call(*operands: Any, **static: Any) -> Any:
        return _compiled(*operands, function=function, static=tuple(sorted(static.items())))

    return call


def _again(*operands: Any, function: Callable[..., Any], static: Any) -> Any:
    return jax.checkpoint(lambda *inner: function(*inner, **dict(static)))(*operands)


_compiled = jax.jit(_again, static_argnames=("function", "static"))
