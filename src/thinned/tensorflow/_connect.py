"""DropConnect drops the weights of a layer, by one mask for the batch or one for each sample."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from thinned._arguments import requires_training
from thinned.tensorflow import _arguments, _compat, _dropout
from thinned.tensorflow._types import Flag, Scalar, Seed, Tensor, TensorLike

Mode = Literal["inverted", "classic"]


@requires_training
def drop_connect(
    weights: TensorLike,
    rate: Scalar,
    *,
    training: Flag,
    seed: Seed = None,
    mode: Mode = "inverted",
    name: str | None = None,
) -> Tensor:
    """Drop single weights, of a layer of any kind, with one mask for the whole batch.

    The same as `dropout(w, keep_prob) * keep_prob`, as it is often written, is `mode="classic"`: what is kept
    is not scaled. The product's bits differ where 1/keep_prob is rounded; what is dropped never does.

    Args:
        weights: tensor or variable of any shape; float32, float64, float16 or bfloat16.
        rate: probability in [0, 1] to drop; or a floating tensor of no dimension.
        training: bool, or a bool tensor of no dimension. Required.
        seed: a `thinned.Key`, or an integer tensor of shape (2,), is the mask's key; an integer or None draws
            one at each execution, as TensorFlow does.
        mode: "inverted" multiplies what is kept by 1/(1−rate) and evaluates to the weights; "classic" leaves
            what is kept and evaluates to weights · (1−rate).
        name: of the operation.

    Returns:
        A tensor of the weights' shape and dtype.

    Raises:
        TypeError: `training is missing: …`; `rate must be a real number, got …`.
        ValueError: `rate must be in [0, 1], got …`; `mode must be "inverted" or "classic", got …`.

    Source:
        Wan, Zeiler, Zhang, Le Cun and Fergus, "Regularization of Neural Networks using DropConnect",
        ICML 2013.

    Example:
        >>> import tensorflow as tf, thinned
        >>> kernel = tf.ones((2, 5))
        >>> drop_connect(kernel, 0.5, training=True, seed=thinned.Key(0), mode="classic").numpy()
        array([[1., 0., 1., 1., 1.],
               [1., 1., 1., 1., 1.]], dtype=float32)
    """
    p = _arguments.probability(rate, "rate")
    training = _arguments.flag(training)
    key = _arguments.key_of(seed)
    return _dropout.dropout(weights, p, key=key, training=training, mode=mode, name=name or "drop_connect")


@requires_training
def drop_connect_dense(
    inputs: TensorLike,
    kernel: TensorLike,
    bias: TensorLike | None = None,
    rate: Scalar = 0.5,
    *,
    training: Flag,
    seed: Seed = None,
    per_sample: bool = True,
    mode: Mode = "inverted",
    name: str | None = None,
) -> Tensor:
    """A dense layer, inputs · kernel + bias, whose kernel's single weights are dropped.

    With a mask for each sample, as in the paper, all samples' kernels, N × in_features × units numbers, exist
    while a pass multiplies by them, forward and again backward; none is kept in between. One mask for the
    batch is far cheaper. The bias is not dropped.

    Args:
        inputs: (N, …, in_features), N known or not; float32, float64, float16 or bfloat16. What lies between
            the first and the last dimension shares the sample's mask.
        kernel: (in_features, units), as in Keras.
        bias: (units), or None.
        rate: probability in [0, 1] to drop; or a floating tensor of no dimension.
        training: bool, or a bool tensor of no dimension. Required.
        seed: as for `drop_connect`. The mask is that of shape (N, in_features, units), or
            (in_features, units).
        per_sample: whether each sample has a mask of its own, or all have one.
        mode: as for `drop_connect`.
        name: of the operation.

    Returns:
        (N, …, units), computed in float32 (float64 for float64) and rounded once to the inputs' dtype.

    Raises:
        TypeError: as `drop_connect`.
        ValueError: as `drop_connect`; `kernel of shape … does not fit inputs of shape …`.

    Source:
        Wan et al., "Regularization of Neural Networks using DropConnect", ICML 2013. It evaluates by moments
        of the sum's distribution; this, as is usual, by its mean.

    Example:
        >>> import tensorflow as tf, thinned
        >>> x, kernel = tf.ones((2, 4)), tf.ones((4, 3))
        >>> drop_connect_dense(x, kernel, rate=0.5, training=True, seed=thinned.Key(0)).numpy()
        array([[8., 4., 6.],
               [0., 4., 2.]], dtype=float32)
    """
    p = _arguments.probability(rate, "rate")
    training = _arguments.flag(training)
    x, w = _dropout.check_input(inputs), _dropout.check_input(kernel)
    if w.shape.rank != 2 or x.shape.rank in (None, 0, 1) or not x.shape[-1:].is_compatible_with(w.shape[:1]):
        raise ValueError(
            f"kernel of shape {w.shape} does not fit inputs of shape {x.shape}: it is (in_features, units), "
            "and inputs (N, …, in_features)"
        )
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    key = _arguments.key_of(seed)

    def drop(weights: Any) -> Any:
        return _dropout.dropout(weights, p, key=key, training=training, mode=mode)

    with tf.name_scope(name or "drop_connect_dense"):
        rows, w = tf.cast(x, wide), tf.cast(w, wide)
        changes = tf.is_tensor(p) or p > 0
        one_for_all = not per_sample or not (changes and training is not False)
        y = tf.tensordot(rows, drop(w), 1) if one_for_all else _per_sample(rows, w, drop)
        if bias is not None:
            y += tf.cast(bias, wide)
        return tf.cast(y, x.dtype)


def _per_sample(rows: Any, w: Any, drop: Any) -> Any:
    """Samples' rows by each one's own weights, recomputed backward: N times the kernel is not kept.

    The recorder is off forward: what a tape sees inside a custom gradient it holds to the end.
    """
    sizes = tf.shape(rows)
    flat = tf.reshape(rows, tf.stack([sizes[0], tf.reduce_prod(sizes[1:-1]), sizes[-1]]))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def multiply(x: Any, kernel: Any) -> tuple[Any, Any]:
        def each(weights: Any) -> Any:
            shape = tf.concat([tf.shape(x)[:1], tf.shape(weights)[-2:]], 0)
            return drop(tf.broadcast_to(weights, shape))

        def gradient(upstream: Any) -> tuple[Any, Any]:
            of_x = tf.matmul(upstream, each(kernel), transpose_b=True)
            of_kernel = tf.reduce_sum(each(tf.matmul(x, upstream, transpose_a=True)), 0)
            return of_x, of_kernel

        with _compat.stop_recording():
            return tf.matmul(x, each(kernel)), gradient

    result = tf.reshape(multiply(flat, w), tf.concat([sizes[:-1], tf.shape(w)[-1:]], 0))
    result.set_shape(rows.shape[:-1].concatenate(w.shape[-1:]))
    return result
