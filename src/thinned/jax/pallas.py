"""A Pallas kernel drops JAX arrays on a GPU, eight positions for each call of the generator.

`thinned.jax.dropout` computes each element by itself there, so that any partitioner may cut it: 39 products
of 64 bits for an element. Here it is 2.5. No GPU has run it yet: tests interpret it, and lower it for CUDA.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from thinned.contract import PURPOSE_HIGH, PURPOSE_LOW
from thinned.jax import _compat, _dropout, _key, _philox, _rate
from thinned.jax._primitive import rounded
from thinned.jax._types import AnyKey

__all__ = ["dropout"]

_CALLS = 128  # of a program
_SPAN = 8 * _CALLS
_MOST = 2**35  # positions whose block is a number of 32 bits
_HALF = np.uint32(0xFFFF)


def dropout(x: ArrayLike, p: ArrayLike, *, key: AnyKey, training: bool, interpret: bool = False) -> jax.Array:
    """Equivalent to `thinned.jax.dropout(x, p, key=key, training=training)`, by a kernel in Pallas.

    Args:
        x: array on one device, a whole one; float32, float16 or bfloat16 of a multiple of 1,024 elements and
            at most 2^35. Others go by `thinned.jax.dropout`. Inside a `jax.shard_map` each part is a whole
            one, whose positions begin at 0: give each part a key of its own.
        p: drop probability in [0, 1], as there.
        key: as there.
        training: True drops, False evaluates.
        interpret: run the kernel in `jax.numpy`, on any platform. What varies over an axis of a
            `jax.shard_map` JAX cannot interpret, unless it has `check_vma=False`: it goes by
            `thinned.jax.dropout`.

    Returns:
        An array like x, with the same bits. It has a gradient by the same kernel, and no forward derivative.

    Raises:
        TypeError: as `thinned.jax.dropout`.
        ValueError: as `thinned.jax.dropout`.

    Source:
        CONTRACT.md, sections 2 to 4.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> y = dropout(jnp.ones(2048), 0.5, key=Key(0), training=True, interpret=True)
        >>> y[:8]
        Array([2., 0., 2., 2., 2., 2., 2., 2.], dtype=float32)
    """
    array = jnp.asarray(x)
    if not _dropout.check_static(training) or array.dtype == np.float64 or array.size % _SPAN:
        return _dropout.dropout(x, p, key=key, training=training)
    drop = _rate.threshold(p)
    words = _key.words(key)
    _dropout.check_dtype(array, "x")
    if drop == 0 or not 0 < array.size <= _MOST:
        return _dropout.dropout(x, p, key=key, training=training)
    operands = _dropout.alike(array, words, _rate.words(p, drop))
    if interpret and _compat.varies(operands[0]):
        return _dropout.dropout(x, p, key=key, training=training)
    _key.spend(key)
    return _dropped(*operands, interpret)  # type: ignore[no-any-return]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _dropped(x: Any, words: Any, threshold: Any, interpret: bool) -> Any:
    pallas, options = _compat.pallas()
    numbers = jnp.stack([_rate.scale(threshold, np.dtype(np.float32)), _rate.dropped(threshold, np.float32)])
    tile = pallas.BlockSpec((_CALLS, 8), lambda i: (i, 0))
    small = [pallas.BlockSpec((n,), lambda i: (0,)) for n in (4, 2, 2)]
    call = pallas.pallas_call(
        functools.partial(_kernel, pallas),
        grid=(x.size // _SPAN,),
        in_specs=[*small, tile],
        out_specs=tile,
        out_shape=jax.ShapeDtypeStruct((x.size // 8, 8), x.dtype, **_compat.varying_as(x)),
        interpret=interpret,
        **({} if interpret else options),
    )
    return call(words, threshold, numbers, x.reshape(-1, 8)).reshape(x.shape)


def _forward(x: Any, words: Any, threshold: Any, interpret: bool) -> Any:
    return _dropped(x, words, threshold, interpret), (words, threshold)


def _backward(interpret: bool, saved: Any, grad: Any) -> Any:
    return _dropped(grad, *saved, interpret), None, None


_dropped.defvjp(_forward, _backward)


def _kernel(pallas: Any, words: Any, threshold: Any, numbers: Any, x: Any, out: Any) -> None:
    """A tile of blocks by their eight positions."""
    block = jnp.uint32(pallas.program_id(0)) * np.uint32(_CALLS) + lax.broadcasted_iota(
        np.uint32, (_CALLS,), 0
    )
    key = [words[k] for k in range(4)]
    high = threshold[0] >> np.uint32(16) | threshold[1] << np.uint32(16)
    low = threshold[0] & _HALF
    first = _halves(block, key, PURPOSE_HIGH)
    tied = (first == high) & (low != 0)

    def decided() -> Any:
        return (first > high) | ((first == high) & (_halves(block, key, PURPOSE_LOW) >= low))

    # One position in 65,536 ties: one tile in 64.
    kept = lax.cond(jnp.max(tied.astype(np.int32)) > 0, decided, lambda: first >= high)
    value = rounded(x[...].astype(np.float32) * numbers[0], x.dtype)
    out[...] = jnp.where(kept, value, numbers[1].astype(x.dtype))


def _halves(block: Any, key: list[Any], purpose: int) -> Any:
    """The halfwords of blocks, (…, 8)."""
    zero = jnp.zeros_like(block)
    counter = (block, zero + np.uint32(purpose << 28), zero + key[2], zero + key[3])
    shape = (*block.shape, 8)
    drawn = [jnp.broadcast_to(w[:, None], shape) for w in _philox.philox(counter, key[0], key[1])]
    place = lax.broadcasted_iota(np.uint32, shape, 1)
    word = jnp.where(
        place < 4, jnp.where(place < 2, drawn[0], drawn[1]), jnp.where(place < 6, drawn[2], drawn[3])
    )
    return word >> ((place & np.uint32(1)) * np.uint32(16)) & _HALF
