"""Concrete dropout multiplies by a relaxed mask, through which the gradient reaches p."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from thinned import _concrete
from thinned._arguments import requires_training
from thinned.contract import check_probability
from thinned.tensorflow import _compat, _key, _plain
from thinned.tensorflow._dropout import check_input, flag
from thinned.tensorflow._placement import Place, place
from thinned.tensorflow._types import AnyKey, Flag, NoiseShape, Scalar, Sizes, Tensor, TensorLike, as_written


@as_written
@requires_training
def concrete_dropout(
    x: TensorLike,
    p: Scalar,
    *,
    key: AnyKey,
    training: Flag,
    temperature: float = 0.1,
    noise_shape: NoiseShape | None = None,
    global_shape: Sizes | None = None,
    start: Sizes | None = None,
) -> Tensor:
    """Multiply by a relaxed mask over 1 − p: a sigmoid in place of dropout's step, differentiable in p.

    With u the mask's own uniform numbers, what is kept of an element is
    σ(−(logit p − logit u) / temperature). The mask is computed again for the gradient: only x and p are kept.

    Args:
        x: tensor; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a floating tensor that broadcasts to x; it has a gradient.
            One of a running graph that is outside gives NaN.
        key: as in `dropout`.
        training: True multiplies, False evaluates to x itself; or a bool tensor of no dimension.
        temperature: positive; the paper's is 0.1.
        noise_shape: as in `dropout`.
        global_shape: as in `dropout`.
        start: as in `dropout`.

    Returns:
        A tensor like x. At p = 0 all is kept as it is, at p = 1 all is +0.0; there p gets no gradient.

    Raises:
        TypeError: `p must be a real number, got …`; else as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `temperature must be positive, got …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017, equation 5.

    Example:
        >>> import tensorflow as tf, thinned
        >>> p = tf.Variable(0.5)
        >>> with tf.GradientTape() as tape:
        ...     y = concrete_dropout(tf.ones(5), p, key=thinned.Key(0), training=True)
        >>> bool(tape.gradient(y, p) != 0)
        True
    """
    x, training = check_input(x), flag(training)
    _concrete.check_positive(temperature=temperature)
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    if not isinstance(p, (tf.Tensor, tf.Variable)):
        p = tf.constant(check_probability(p), wide)
    rate = tf.convert_to_tensor(p)
    if not rate.dtype.is_floating:
        raise TypeError(f"p must be a real number, got {rate!r}")
    known = rate.numpy() if hasattr(rate, "numpy") else None
    for worst in () if known is None or not known.size else (known.min(), known.max()):
        check_probability(float(worst))
    _check_fit(rate, x)
    bits, where = _key.check(key), place(x, noise_shape, global_shape, start)
    if training is False:
        return x
    value = _multiplied(x, rate, bits, where, float(temperature))
    return value if training is True else tf.where(training, value, x)


def _check_fit(p: Any, x: Any) -> None:
    """Refuse a p that would make the result larger than x."""
    if p.shape.rank == 0:
        return
    ranks = p.shape.rank, x.shape.rank
    if None in ranks:
        return
    sizes = x.shape.as_list()[max(ranks[1] - ranks[0], 0) :]
    clash = ranks[0] > ranks[1] or any(
        one not in (None, 1) and whole is not None and one != whole
        for one, whole in zip(p.shape.as_list(), sizes, strict=False)
    )
    if clash:
        raise ValueError(f"p of shape {p.shape} does not fit x of shape {x.shape}")


def _multiplied(x: Any, p: Any, key: Any, where: Place, temperature: float) -> Any:
    """Multiplies with a gradient that makes the mask again: the forward pass is not recorded."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def multiply(x: Any, p: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch([x, p])
                again = _relaxed(x, p, key, where, temperature)
            return tape.gradient(again, [x, p], upstream)

        with _compat.stop_recording():
            return _relaxed(x, p, key, where, temperature), gradient

    return multiply(x, p)


def _relaxed(x: Any, p: Any, key: Any, where: Place, temperature: float) -> Any:
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    u = (tf.cast(_plain.numbers(_plain.sizes(x), key, where), tf.float64) + 0.5) / 2.0**32
    odds = tf.cast(tf.math.log(u) - tf.math.log1p(-u), wide)
    rate = tf.cast(p, wide)
    inside = tf.clip_by_value(rate, wide.as_numpy_dtype(_TINY[wide]), wide.as_numpy_dtype(1.0 - _HALF[wide]))
    ends = (tf.ones((), wide), tf.zeros((), wide))
    value = _concrete.relaxed(tf.cast(x, wide), odds, rate, inside, temperature, _OPERATORS, ends)
    if p.shape.rank != 0:  # whose sizes may be known when the program runs
        value = tf.reshape(value, tf.shape(x))
    return tf.cast(value, x.dtype)


_OPERATORS = SimpleNamespace(log=tf.math.log, log1p=tf.math.log1p, sigmoid=tf.sigmoid, where=tf.where)
# The least normal number, and half the distance of 1 from the number after it.
_TINY = {tf.float32: 2.0**-126, tf.float64: 2.0**-1022}
_HALF = {tf.float32: 2.0**-24, tf.float64: 2.0**-53}
