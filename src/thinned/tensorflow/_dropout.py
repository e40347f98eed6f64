"""`dropout` and `keep_mask` take TensorFlow tensors."""

from __future__ import annotations

import math
from typing import Any, Literal

import tensorflow as tf

from thinned._arguments import IDENTITY, check_mode, check_training, one_p, requires_training
from thinned._position import Shape, as_shape
from thinned.tensorflow import _key, _operation, _rate
from thinned.tensorflow._placement import place
from thinned.tensorflow._types import AnyKey, Flag, NoiseShape, Scalar, Sizes, Tensor, TensorLike, as_written

_DTYPES = frozenset((tf.float32, tf.float64, tf.float16, tf.bfloat16))


@as_written
@requires_training
def dropout(
    x: TensorLike,
    p: Scalar | None = None,
    *,
    key: AnyKey,
    training: Flag,
    rate: Scalar | None = None,
    keep_prob: Scalar | None = None,
    noise_shape: NoiseShape | None = None,
    mode: Literal["inverted", "classic"] = "inverted",
    global_shape: Sizes | None = None,
    start: Sizes | None = None,
    name: str | None = None,
) -> Tensor:
    """Drop elements of x by the mask of `key`, and scale the rest: `thinned.dropout`, with the same bits.

    The gradient uses the same mask, recomputed: nothing of x's size is kept for it. Second and forward-mode
    derivatives work; with respect to p there is none (`tape.gradient` gives None).

    Args:
        x: tensor, or what becomes one, of any shape, known or not; float32, float64, float16 or bfloat16. Of
            a ragged tensor the flat values are dropped, by their positions among themselves.
        p: drop probability in [0, 1]: a number, or a floating tensor of no dimension, whose value may change
            from step to step in one compiled graph. A float32 tensor's 0.1 is the number that it holds.
        key: the mask's key: a `thinned.Key`, or an int64 or int32 tensor of shape (2,), its seed and stream
            as two's complement. Same key, same mask: fold the step in for a new one.
        training: True drops, False evaluates; or a bool tensor of no dimension. Required.
        rate: p by the name that `tf.nn` gives it.
        keep_prob: 1 − p, in double. Exactly one of the three must be given.
        noise_shape: one entry a dimension, or an integer tensor of them: 1 shares the decision along it;
            None, x's size or, in a tensor, −1 does not.
        mode: "inverted" multiplies what is kept by 1/(1−p) and evaluates to x itself; "classic" leaves what
            is kept and evaluates to x · (1−p).
        global_shape: shape of the whole tensor, where x is a shard of it; integers, or a tensor of them.
        start: index of x's first element in the whole tensor, integers or a tensor; zeros if not given.
        name: of the operators in a graph.

    Returns:
        x itself where nothing changes and that is known (p = 0, inverted evaluation), else a new tensor of
        its shape and dtype. What is dropped is +0.0 exactly, and so is its gradient.

    Raises:
        TypeError: `training is missing: …`; `pass exactly one of p, rate (drop) or keep_prob (keep), got …`;
            `x must be float32, …, got …`; `p must be a real number, got …`; `key must be a thinned.Key, got
            …`; `key as a tensor must be int64 or int32 of shape (2,), …`.
        ValueError: `p must be in [0, 1], got …`; `noise_shape … does not fit x of shape …`.
        tf.errors.InvalidArgumentError: the same as a ValueError, of what only a running graph knows. XLA has
            no assertions: there a p outside [0, 1] makes all of the result NaN.

    Source:
        CONTRACT.md, sections 3 and 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> import tensorflow as tf, thinned
        >>> dropout(tf.ones((2, 5)), 0.5, key=thinned.Key(0), training=True).numpy()
        array([[2., 0., 2., 2., 2.],
               [2., 2., 2., 2., 2.]], dtype=float32)
    """
    training = flag(training)
    p = one_p(p, rate, keep_prob, _rate.check, _rate.complement)
    drop = _rate.drop_threshold(p)
    act, factor = _rate.effect(drop, training, check_mode(mode))
    same = not isinstance(act, tf.Tensor) and (act, factor) == IDENTITY
    if same and isinstance(x, (tf.RaggedTensor, tf.SparseTensor)):
        return x
    if isinstance(x, tf.RaggedTensor):
        return _ragged(
            x, p, (noise_shape, global_shape, start), key=key, training=training, mode=mode, name=name
        )
    x = check_input(x)
    bits = _key.check(key)
    where = place(x, noise_shape, global_shape, start)
    if same:
        return x
    if tf.executing_eagerly():  # which has no names, and where a scope costs 10 µs
        return _operation.dropout(x, bits, act, factor, where)
    with tf.name_scope(name or "dropout"):
        return _operation.dropout(x, bits, act, factor, where)


@as_written
def keep_mask(
    shape: Shape, p: Scalar, *, key: AnyKey, global_shape: Sizes | None = None, start: Sizes | None = None
) -> Tensor:
    """The mask itself as a bool tensor: True where kept. See `thinned.keep_mask`.

    Args:
        shape: shape of the result, integers.
        p: as for `dropout`.
        key: as for `dropout`.
        global_shape: shape of the whole mask, where a part of it is wanted.
        start: index in the whole mask at which the part begins; zeros if not given.

    Example:
        >>> import thinned
        >>> keep_mask(5, 0.5, key=thinned.Key(0)).numpy()
        array([ True, False,  True,  True,  True])
    """
    drop = _rate.drop_threshold(p)
    bits = _key.check(key)
    sizes = as_shape("shape", shape)
    if math.prod(sizes) >= 2**63:
        raise ValueError(f"shape {sizes} has 2^63 elements or more: no tensor has as many")
    where = place(tf.TensorSpec(sizes), None, global_shape, start)
    return _operation.keep_mask(sizes, bits, drop, where)


def check_input(x: Any) -> Any:
    """X as a tensor of one of the four types."""
    if isinstance(x, tf.SparseTensor):
        raise TypeError(
            "x must be a tensor or a tf.RaggedTensor, got a tf.SparseTensor: drop tf.sparse.to_dense(x), or "
            "what is stored, x.with_values(dropout(x.values, …))"
        )
    if not isinstance(x, tf.Tensor):
        x = tf.convert_to_tensor(x)
    if x.dtype not in _DTYPES:
        raise TypeError(f"x must be float32, float64, float16 or bfloat16, got {x.dtype.name}")
    return x


def check_rank(x: Any) -> int:
    """Returns the number of dimensions, where a function has to know it."""
    rank: int | None = x.shape.rank
    if rank is None:
        raise ValueError(
            "x must have a known number of dimensions here: set it with x.set_shape or tf.ensure_shape"
        )
    return rank


def _ragged(x: Any, p: Any, places: tuple[Any, ...], **kwargs: Any) -> Any:
    """Drops the values of a ragged tensor, as TensorFlow does."""
    if any(place is not None for place in places):
        raise ValueError(
            "noise_shape, global_shape and start do not fit a ragged x, whose values have no place in an "
            "array: drop x.to_tensor(), or leave them out"
        )
    return x.with_flat_values(dropout(x.flat_values, p, **kwargs))


def flag(training: Any) -> Any:
    """A bool, or the tensor of one in a graph."""
    if not isinstance(training, tf.Tensor) and not isinstance(training, tf.Variable):
        return check_training(training)
    flag = tf.cast(training, tf.bool)
    return bool(flag) if hasattr(flag, "numpy") else flag
