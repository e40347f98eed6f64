"""These functions replace words, and mask boxes of a map."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from thinned import _boxes
from thinned._arguments import check_tokens, requires_training
from thinned.tensorflow import _key, _plain, _rate
from thinned.tensorflow._dropout import check_input, check_rank, dropout, flag
from thinned.tensorflow._placement import place
from thinned.tensorflow._types import AnyKey, Flag, Scalar, Sizes, Tensor, TensorLike, as_written


@as_written
@requires_training
def word_dropout(
    tokens: TensorLike,
    p: Scalar,
    replacement: int,
    *,
    key: AnyKey,
    training: Flag,
    protected: tuple[int, ...] = (),
    global_shape: Sizes | None = None,
    start: Sizes | None = None,
) -> Tensor:
    """Replace each token by another, the unknown word's as a rule, with probability p.

    Args:
        tokens: token numbers, integers of any shape; of a ragged tensor the flat values, as in `dropout`.
        p: as in `dropout`.
        replacement: what a token is replaced by.
        key: of the mask, dropout's of the tokens' shape.
        training: True replaces, False evaluates to the tokens; or a bool tensor of no dimension.
        protected: tokens that are never replaced: padding, beginning and end.
        global_shape: as in `dropout`.
        start: as in `dropout`.

    Returns:
        A tensor like the tokens. No scale is applied: tokens have none.

    Raises:
        TypeError: `tokens must be integers, got …`; else as `dropout`.
        ValueError: as `dropout`.

    Source:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015; Bowman et al.,
        "Generating Sentences from a Continuous Space", CoNLL 2016.

    Example:
        >>> import tensorflow as tf, thinned
        >>> word_dropout(tf.constant([5, 6, 7, 8, 9]), 0.5, 0, key=thinned.Key(0), training=True).numpy()
        array([5, 0, 7, 8, 9], dtype=int32)
    """
    if isinstance(tokens, tf.RaggedTensor):
        values: Any = word_dropout(
            tokens.flat_values, p, replacement, key=key, training=training, protected=protected
        )
        return tokens.with_flat_values(values)
    tokens = tf.convert_to_tensor(tokens)
    if not tokens.dtype.is_integer:
        raise TypeError(f"tokens must be integers, got {tokens.dtype.name}: dropout drops real numbers")
    replacement, *listed = check_tokens(replacement, protected, tokens.dtype.name)
    ones = tf.ones_like(tokens, tf.float32)
    options: Any = {"mode": "classic", "global_shape": global_shape, "start": start}
    kept = dropout(ones, p, key=key, training=True, **options) != 0
    training = flag(training)
    if training is False:
        return tokens
    if training is not True:
        kept = tf.logical_or(kept, tf.logical_not(training))
    for token in listed:
        kept = tf.logical_or(kept, tf.equal(tokens, tf.cast(token, tokens.dtype)))
    return tf.where(kept, tokens, tf.cast(replacement, tokens.dtype))


@as_written
@requires_training
def mask_spans(
    x: TensorLike,
    width: int,
    count: int,
    dim: int,
    *,
    key: AnyKey,
    training: Flag,
    value: float = 0.0,
    global_shape: Sizes | None = None,
    start: Sizes | None = None,
) -> Tensor:
    """Mask spans along one dimension, for each sample its own: SpecAugment's time and frequency masks.

    Span k of sample n has a width that is uniform on 0 … width, and begins uniformly where it fits: by the
    numbers at (n, k, 0) and (n, k, 1).

    Args:
        x: (N, …), spectrograms, say, of a known number of dimensions.
        width: the widest span, at most the dimension's size.
        count: spans of each sample.
        dim: along which they are, not 0.
        key: of the numbers, of shape (N, count, 2).
        training: True masks, False evaluates to x itself; or a bool tensor of no dimension.
        value: what is written there.
        global_shape: of these numbers, as in `dropout`.
        start: of these numbers, as in `dropout`.

    Returns:
        A tensor like x. What is kept is not scaled.

    Raises:
        TypeError: as `dropout`.
        ValueError: `width must be from 0 to …, got …`; `dim must be …`.

    Source:
        Park et al., "SpecAugment", Interspeech 2019.

    Example:
        >>> import tensorflow as tf, thinned
        >>> mask_spans(tf.ones((1, 2, 8)), 4, 1, -1, key=thinned.Key(0), training=True)[0, 0].numpy()
        array([1., 0., 0., 0., 0., 1., 1., 1.], dtype=float32)
    """
    x, training = check_input(x), flag(training)
    check_rank(x)
    _boxes.check_value(value)
    _boxes.check_spans(width, count, dim, tuple(x.shape))
    bits = _key.check(key)
    sizes = _plain.sizes(x)
    like = tf.broadcast_to(tf.constant(0.0), tf.stack([sizes[0], count, 2]))
    like.set_shape((x.shape[0], count, 2))
    where = place(like, None, global_shape, start)
    if training is False:
        return x
    drawn = _plain.numbers(_plain.sizes(like), bits, where)
    size = tf.cast(sizes[dim], tf.int64)
    inside = tf.reduce_any(_boxes.spans(drawn, width, size, tf.range(size)), 1)
    shape = [1] * x.shape.rank
    shape[0], shape[dim] = sizes[0], sizes[dim]
    written = _written(x, tf.reshape(inside, tf.stack(shape)), value, training)
    if x.shape[dim] is not None:
        return written
    # What is known when the program runs; XLA has no assertions.
    fits = size >= width
    with tf.control_dependencies(
        [tf.debugging.Assert(fits, [f"width must be from 0 to the size of dim, got {width} of", size])]
    ):
        return tf.where(tf.logical_or(fits, tf.logical_not(training)), written, _nan(x))


@as_written
@requires_training
def cutout(
    x: TensorLike,
    size: int | tuple[int, int],
    p: Scalar = 1.0,
    *,
    key: AnyKey,
    training: Flag,
    layout: str = "NHWC",
    value: float = 0.0,
    global_shape: Sizes | None = None,
    start: Sizes | None = None,
) -> Tensor:
    """Mask a box of each picture whose centre is anywhere in it, with probability p.

    Args:
        x: (N, H, W, C); all channels have one box.
        size: of the box, which may reach over the edge: a number, or height and width.
        p: probability in [0, 1] that a picture has a box, as in `dropout`.
        key: of the numbers, of shape (N, 3).
        training: True masks, False evaluates to x itself; or a bool tensor of no dimension.
        layout: where N, H, W and C are: "NHWC", or "NCHW".
        value: what is written there.
        global_shape: of these numbers, as in `dropout`.
        start: of these numbers, as in `dropout`.

    Returns:
        A tensor like x. What is kept is not scaled.

    Raises:
        TypeError: as `dropout`.
        ValueError: `layout must have the letters N, H, W and C …`; `size must be positive, got …`.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017;
        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.

    Example:
        >>> import tensorflow as tf, thinned
        >>> y = cutout(tf.ones((1, 4, 4, 1)), 2, key=thinned.Key(0), training=True)
        >>> float(tf.reduce_sum(y))
        12.0
    """
    x, training = check_input(x), flag(training)
    check_rank(x)
    _boxes.check_value(value)
    sides, axes = _boxes.check_box(size, layout, tuple(x.shape))
    drop, bits = _rate.drop_threshold(p), _key.check(key)
    sizes = [tf.shape(x, tf.int64)[axis] for axis in axes]
    like = tf.broadcast_to(tf.constant(0.0), tf.stack([sizes[0], 3]))
    like.set_shape((x.shape[axes[0]], 3))
    where = place(like, None, global_shape, start)
    if training is False:
        return x
    drawn = _plain.numbers(_plain.sizes(like), bits, where)
    inside = _boxes.box(drawn, sides, (tf.range(sizes[1]), tf.range(sizes[2])), (sizes[1], sizes[2]))
    inside = tf.logical_and(inside, (drawn[:, 2] < drop)[:, None, None])
    order = sorted(range(4), key=lambda letter: axes[letter])
    written = _written(x, tf.transpose(inside[..., None], order), value, training)
    if isinstance(drop, int):
        return written
    return tf.where(tf.logical_and(drop < 0, training), _nan(x), written)  # XLA has no assertions


def _nan(x: Any) -> Any:
    return tf.cast(float("nan"), x.dtype)


def _written(x: Any, inside: Any, value: float, training: Any) -> Any:
    if training is not True:
        inside = tf.logical_and(inside, training)
    return tf.where(inside, tf.cast(value, x.dtype), x)
