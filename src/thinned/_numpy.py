"""The NumPy front end is `dropout` and `keep_mask` on arrays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thinned import _kernel
from thinned._arguments import (
    IDENTITY,
    check_key,
    check_mode,
    check_training,
    drop_threshold,
    effect,
    requires_training,
)
from thinned._overlap import overlaps_itself
from thinned._position import Shape, as_shape, positions, row_major
from thinned.contract import Bools, Key, threshold

Array = npt.NDArray[Any]

_DTYPES = {
    np.dtype(np.float32): _kernel.FLOAT32,
    np.dtype(np.float64): _kernel.FLOAT64,
    np.dtype(np.float16): _kernel.FLOAT16,
}
_NAMES = {"float32", "float64", "float16", "bfloat16"}
_ALIGNMENT = 64  # bytes; what streaming stores of every instruction set need
_PATIENCE = 10_000  # steps of NumPy's search for shared memory, which has no bound of its own


def keep_mask(
    shape: Shape, p: float, *, key: Key, global_shape: Shape | None = None, start: Shape | None = None
) -> Bools:
    """The mask itself: True where a position is kept.

    Args:
        shape: shape of the result, or of the shard wanted.
        p: drop probability in [0, 1].
        key: the mask's key.
        global_shape: shape of the whole mask, where a part of it is wanted; at most 2^63 positions.
        start: index in the whole mask at which the part begins; zeros if not given.

    Returns:
        bool array, C order, equal to the same slice of the whole mask.

    Raises:
        TypeError: `p must be a real number, got …`; `key must be a thinned.Key, got …`.
        ValueError: `p must be in [0, 1], got …`; `x of shape … from … reaches outside global_shape …`.

    Source:
        CONTRACT.md, section 3.

    Example:
        >>> keep_mask((2, 5), 0.5, key=Key(0)).astype(int)
        array([[1, 0, 1, 1, 1],
               [1, 1, 1, 1, 1]])
    """
    drop = threshold(p)
    key = check_key(key)
    sizes = as_shape("shape", shape)
    base, strides = positions(sizes, None, global_shape, start)
    out = np.empty(sizes, dtype=np.bool_)
    _run(_kernel.MASK, out, out, strides, base, key, drop, 1.0)
    return out


@requires_training
def dropout(
    x: npt.ArrayLike,
    p: float | None = None,
    *,
    key: Key,
    training: bool,
    keep_prob: float | None = None,
    rate: float | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    noise_shape: tuple[int | None, ...] | None = None,
    global_shape: Shape | None = None,
    start: Shape | None = None,
    out: Array | None = None,
) -> Array:
    """Drop elements of x by the mask of `key`, and scale the rest.

    Its gradient is the same call on the upstream gradient, `dropout(grad, p, key=key, training=True)`:
    nothing needs to be kept for it.

    Args:
        x: array of any shape and strides; float32, float64, float16 or bfloat16 (ml_dtypes).
        p: drop probability in [0, 1]. Exactly one of `p`, `rate` and `keep_prob` must be given.
        key: the mask's key. Same key, same mask.
        training: True drops, False evaluates. Required.
        keep_prob: 1 − p, as TensorFlow 1 says it.
        rate: p, as TensorFlow 2 and Keras say it.
        mode: "inverted" multiplies what is kept by 1/(1−p) and evaluates to x itself; "classic" leaves what
            is kept and evaluates to x · (1−p).
        noise_shape: one entry a dimension: 1 shares the decision along it; None or x's size does not.
        global_shape: shape of the whole array, where x is a shard of it.
        start: index of x's first element in the whole array; zeros if not given.
        out: array of x's shape and dtype to write to; x itself for in place.

    Returns:
        `out` if given, else x itself where nothing changes (p = 0, inverted evaluation), else a new array of
        x's shape, dtype and layout. What is dropped is +0.0 exactly, whatever x held there.

    Raises:
        TypeError: `training is missing: …`; `pass exactly one of p, rate (drop) or keep_prob (keep), got …`;
            `x must be float32, float64, float16 or bfloat16, got …`; `x is a masked array …`;
            `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `noise_shape … does not fit x of shape …`;
            `out …`, where it does not fit x or overlaps it.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> dropout(np.ones((2, 5), np.float32), 0.5, key=Key(0), training=True)
        array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    training = check_training(training)
    drop = drop_threshold(p=p, rate=rate, keep_prob=keep_prob)
    inverted = check_mode(mode)
    key = check_key(key)
    array = _as_array(x)
    dtype = _kernel_dtype(array)
    base, strides = positions(array.shape, noise_shape, global_shape, start)
    act, factor = effect(drop, training, inverted)
    if out is None:
        if (act, factor) == IDENTITY:
            return array
        out = _fresh(array)
    else:
        _check_out(array, out)
    _run(dtype, array, out, strides, base, key, act, factor)
    return out


def thinned_dots(x: Array, w: Array, p: float, *, key: Key, draws: int, first: int = 0) -> Array:
    """The activations w · (x ∘ mask) of many masks, unscaled, in one pass that stores none of them.

    Draw d takes row d of a mask of shape (…, n): positions d · n to d · n + n − 1.

    Args:
        x: float32, shape (n,), contiguous.
        w: float32, shape (n,), contiguous.
        p: drop probability in [0, 1].
        key: the masks' key.
        draws: how many.
        first: the first draw's number.

    Returns:
        float64, shape (draws,). Sums of 4,096 products are float32, their sums float64.

    Raises:
        ValueError: `x and w must be contiguous float32 vectors of one length, got …`.
    """
    if not x.shape == w.shape == (x.size,) or any(
        a.dtype != np.float32 or a.strides != (4,) or not a.flags.aligned for a in (x, w)
    ):
        got = f"{x.dtype} of shape {x.shape} and {w.dtype} of shape {w.shape}"
        raise ValueError(f"x and w must be contiguous float32 vectors of one length, got {got}")
    out = np.empty(draws)
    words = (first * x.size, key.seed, key.stream, threshold(p), _kernel.get_num_threads())
    _kernel.dots(_kernel.address(x), _kernel.address(w), _kernel.address(out), x.size, draws, *words)
    return out


def _run(
    dtype: int,
    x: Array,
    out: Array,
    strides: tuple[int, ...] | None,
    base: int,
    key: Key,
    drop: int,
    factor: float,
) -> None:
    if not (_aligned(x) and _aligned(out)):
        inside = np.array(x, order="C")
        _run(dtype, inside, inside, strides, base, key, drop, factor)
        out[...] = inside
        return
    to = _kernel.address(out)
    source = to if x is out else _kernel.address(x)
    what = (base, key.seed, key.stream, drop, factor, _kernel.get_num_threads())
    whole = strides is None or strides == row_major(x.shape)
    if whole and x.flags.c_contiguous and out.flags.c_contiguous:
        _kernel.dense(dtype, source, to, x.size, *what)
        return
    x_strides = [step // x.itemsize for step in x.strides]
    out_strides = [step // x.itemsize for step in out.strides]
    steps = row_major(x.shape) if strides is None else strides
    _kernel.strided(dtype, source, to, x.shape, x_strides, out_strides, steps, *what)


def _aligned(x: Array) -> bool:
    """Tells whether elements are aligned; they are not in a field of a packed structure."""
    return x.flags.aligned and (x.flags.c_contiguous or not any(step % x.itemsize for step in x.strides))


def _as_array(x: npt.ArrayLike) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("x is a masked array, whose mask would be lost: pass x.filled(value) or x.data")
    return np.asarray(x)


def _kernel_dtype(x: Array) -> int:
    dtype = _DTYPES.get(x.dtype)
    if dtype is not None:
        return dtype
    known = x.dtype.name in _NAMES
    if known and x.dtype.isnative:  # ml_dtypes registers bfloat16: NumPy has none
        return _kernel.BFLOAT16
    remedy = (
        f", {x.dtype.name} in the other byte order: pass x.astype(x.dtype.newbyteorder('='))" if known else ""
    )
    raise TypeError(f"x must be float32, float64, float16 or bfloat16, got {x.dtype}{remedy}")


def _fresh(x: Array) -> Array:
    """An empty array laid out like x; large ones aligned, so that stores can bypass the cache."""
    if 0 in x.strides:  # broadcast: NumPy would put such dimensions innermost, which is no layout to keep
        return np.empty(x.shape, x.dtype)
    if x.nbytes < 1 << 20 or not x.flags.c_contiguous:
        return np.empty_like(x, subok=False)
    room = np.empty(x.nbytes + _ALIGNMENT, dtype=np.uint8)
    skip = -_kernel.address(room) % _ALIGNMENT
    return room[skip : skip + x.nbytes].view(x.dtype).reshape(x.shape)


def _check_out(x: Array, out: Any) -> None:
    if not isinstance(out, np.ndarray) or out.shape != x.shape or out.dtype != x.dtype:
        got = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else repr(out)
        raise ValueError(f"out must be an array like x, {x.dtype} of shape {x.shape}, got {got}")
    if not out.flags.writeable:
        raise ValueError("out is read-only: pass a writeable array")
    if not out.flags.c_contiguous and overlaps_itself(out.shape, out.strides, out.itemsize):
        raise ValueError(f"out has elements that share memory (strides {out.strides}): pass a copy of it")
    if out is not x and np.may_share_memory(x, out) and not _same_place(x, out) and _share_memory(x, out):
        raise ValueError("out overlaps x without being x: pass x itself or a separate array")


def _same_place(x: Array, out: Array) -> bool:
    """Tells whether each element of out lies where that of x does."""
    steps = zip(x.shape, x.strides, out.strides, strict=True)
    return _kernel.address(x) == _kernel.address(out) and all(size < 2 or a == b for size, a, b in steps)


def _share_memory(x: Array, out: Array) -> bool:
    try:
        return np.shares_memory(x, out, max_work=_PATIENCE)  # type: ignore[arg-type]  # any number, in truth
    except np.exceptions.TooHardError:  # not known: taken for an overlap
        return True
