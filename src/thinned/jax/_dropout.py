"""`dropout` and `keep_mask` take JAX arrays."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned._arguments import check_mode, check_training, one_p, requires_training
from thinned._position import Shape, as_shape, positions, row_major
from thinned.contract import check_integer, keep_probability
from thinned.jax import _compat, _key, _philox, _rate
from thinned.jax._primitive import dropout_p, keep_p, rounded
from thinned.jax._types import AnyKey, Start

_DTYPES = ("float32", "float64", "float16", "bfloat16")
_MOST = 2**60  # elements of a mask


@requires_training
def dropout(
    x: ArrayLike,
    p: ArrayLike | None = None,
    *,
    key: AnyKey,
    training: bool,
    rate: ArrayLike | None = None,
    keep_prob: float | None = None,
    noise_shape: tuple[int | None, ...] | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    global_shape: Shape | None = None,
    start: Start | None = None,
) -> jax.Array:
    """Drop elements of x by the mask of `key`, and scale the rest, as `thinned.dropout` does.

    Args:
        x: array of any shape; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1]: a number, or a traced scalar (each value with the same compiled code).
            One that is traced and outside [0, 1] gives NaN.
        key: a `thinned.Key`, a jax PRNG key, or a uint32 array of shape (4,): seed low, seed high, stream
            low, stream high. The PRNG key of two words `jax.random.key(seed)` is `Key(seed)`; one of four,
            such as rbg's, is those words, typed or raw.
        training: True drops, False evaluates. Required, and a Python bool: make it static under `jax.jit`.
        rate: p by the name that Flax and Haiku give it.
        keep_prob: 1 − p, a number. Exactly one of the three must be given.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or x's size does not.
        mode: "inverted" multiplies what is kept by 1/(1−p) and evaluates to x itself; "classic" leaves what
            is kept and evaluates to x · (1−p).
        global_shape: shape of the whole array, where x is a shard of it, as in `jax.shard_map`. Under a
            sharded `jax.jit` x is the whole array already.
        start: index of x's first element in the whole array, integers or traced integers, which nothing can
            check; zeros if not given.

    Returns:
        x itself where nothing changes (p = 0, inverted evaluation), else an array like x. Linear in x: the
        gradient and the tangent are the same call, and nothing is kept for them but the key. Under `jax.vmap`
        each example has the mask of its own key; examples that share a key share a mask.

    Raises:
        TypeError: `pass exactly one of p, rate (drop) or keep_prob (keep), got …`; `training is missing: …`;
            `training must be a Python bool, got …`; `p must be a real
            number, got …`; `p has no gradient …`; `x must be float32, float64, float16 or bfloat16, got …`;
            `key must be …`.
        ValueError: `p must be in [0, 1], got …`; `noise_shape … does not fit x of shape …`; `key must be one
            key, got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from thinned import Key
        >>> dropout(jnp.ones((2, 5)), 0.5, key=Key(0), training=True)
        Array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    training = check_static(training)
    p = one_p(p, rate, keep_prob, _rate.check)
    drop = _rate.threshold(p)
    inverted = check_mode(mode)
    key_words = _key.words(key)
    array = jnp.asarray(x)
    check_dtype(array, "x")
    steps, first = places(array.shape, noise_shape, global_shape, start)
    if drop == 0 or not array.size or (not training and inverted):
        return x if isinstance(x, jax.Array) else array
    if not training:
        return _expected(array, p, drop)
    _key.spend(key)
    operands = (array, key_words, _rate.words(p, drop), first)
    return dropout_p.bind(*alike(*operands), strides=steps, inverted=inverted)  # type: ignore[no-any-return]


def keep_mask(
    shape: Shape, p: ArrayLike, *, key: AnyKey, global_shape: Shape | None = None, start: Start | None = None
) -> jax.Array:
    """The mask itself, as `thinned.keep_mask` gives it: True where a position is kept.

    Args:
        shape: shape of the result, or of the shard wanted.
        p: drop probability in [0, 1], as in `dropout`. One that is traced and outside keeps nothing.
        key: as in `dropout`.
        global_shape: shape of the whole mask, where a part of it is wanted.
        start: index in the whole mask at which the part begins; zeros if not given.

    Returns:
        bool, of `shape`.

    Raises:
        TypeError: `p must be a real number, got …`; `key must be …`.
        ValueError: `p must be in [0, 1], got …`; `shape must have less than 2^60 elements, got …`; `x of
            shape … from … reaches outside global_shape …`.

    Source:
        CONTRACT.md, section 3.

    Example:
        >>> from thinned import Key
        >>> keep_mask((2, 5), 0.5, key=Key(0)).astype(int)
        Array([[1, 0, 1, 1, 1],
               [1, 1, 1, 1, 1]], dtype=int32)
    """
    drop = _rate.threshold(p)
    key_words = _key.words(key)
    sizes = _sizes(shape)
    steps, first = places(sizes, None, global_shape, start)
    if 0 in sizes:
        return jnp.ones(sizes, np.bool_)
    _key.spend(key)
    operands = alike(key_words, _rate.words(p, drop), first)
    return keep_p.bind(*operands, shape=sizes, strides=steps)  # type: ignore[no-any-return]


def check_static(training: Any) -> bool:
    """Tells whether to drop, which has to be known when a program is traced."""
    if isinstance(training, jax.core.Tracer):
        raise TypeError(
            "training must be a Python bool, got a traced value: make it static, jax.jit(…, static_argnames)"
        )
    return check_training(training)


def check_dtype(array: Any, name: str) -> None:
    """Refuse what is not floating."""
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {array.dtype}")


def places(
    shape: tuple[int, ...], noise_shape: Any, global_shape: Any = None, start: Any = None
) -> tuple[tuple[int, ...], Any]:
    """The positions' strides, and the first element's index as words, uint32 of shape (dimensions, 2)."""
    entries = (0,) * len(shape) if start is None else _entries(start)
    known = None if start is None else [0 if _is_traced(entry) else entry for entry in entries]
    _, steps = positions(shape, noise_shape, global_shape, known)
    steps = row_major(shape) if steps is None else steps
    if not any(map(_is_traced, entries)):
        return steps, _philox.halves(entries)
    return steps, jnp.stack([_words(entry) for entry in entries])


def _words(entry: Any) -> Any:
    return jnp.stack(_philox.traced_halves(entry)) if _is_traced(entry) else _philox.halves(entry)


def _entries(start: Any) -> tuple[Any, ...]:
    entries = tuple(start) if getattr(start, "shape", None) != () and hasattr(start, "__iter__") else (start,)
    kind = "an integer or a sequence of integers"
    for entry in filter(_is_traced, entries):
        if entry.shape or not jnp.issubdtype(entry.dtype, np.integer):
            raise TypeError(f"start must be {kind}, got {entry.dtype} of shape {entry.shape}")
    return tuple(e if _is_traced(e) else check_integer("start", e, kind) for e in entries)


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _sizes(shape: Any) -> tuple[Any, ...]:
    """The shape of a mask; XLA ends the process where its arrays, of 8 bytes an element, reach 2^63 bytes."""
    entries = shape if hasattr(shape, "__iter__") else (shape,)
    named = tuple(entry for entry in entries if jax.export.is_symbolic_dim(entry))
    if named:  # a dimension of `jax.export`, whose size is known when the program runs
        return tuple(e if jax.export.is_symbolic_dim(e) else as_shape("shape", e)[0] for e in entries)
    sizes = as_shape("shape", shape)
    if math.prod(size or 1 for size in sizes) >= _MOST:  # counted as if none were 0, as XLA does
        raise ValueError(f"shape must have less than 2^60 elements, got {sizes}: give a part of it, by start")
    return sizes


def alike(*operands: Any) -> tuple[Any, ...]:
    """All varying over the same axes of a `jax.shard_map`, as one operation's operands must."""
    return _compat.varying_alike([jnp.asarray(operand) for operand in operands])


def _expected(x: jax.Array, p: Any, drop: int | None) -> jax.Array:
    """Classic evaluation: x times the keep probability; zero at p = 1, whatever x holds."""
    kept = _rate.expectation(p) if drop is None else keep_probability(drop)
    wide = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    factor = jnp.asarray(kept, wide)
    return jnp.where(factor == 0, jnp.zeros((), x.dtype), rounded(x.astype(wide) * factor, x.dtype))
