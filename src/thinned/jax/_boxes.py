"""These functions mask boxes of a map: spans of time and frequency, and boxes of a picture."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned import _boxes
from thinned._arguments import requires_training
from thinned.jax import _key, _numbers, _philox, _rate
from thinned.jax._dropout import check_dtype, check_static, places
from thinned.jax._types import AnyKey, Place


@requires_training
def mask_spans(
    x: ArrayLike,
    width: int,
    count: int,
    dim: int,
    *,
    key: AnyKey,
    training: bool,
    value: float = 0.0,
    **place: Unpack[Place],
) -> jax.Array:
    """Mask spans along one dimension, for each sample its own: SpecAugment's time and frequency masks.

    Span k of sample n has a width that is uniform on 0 … width, and begins uniformly where it fits: by the
    numbers at (n, k, 0) and (n, k, 1).

    Args:
        x: (N, …), spectrograms, say; float32, float64, float16 or bfloat16.
        width: the widest span, at most the dimension's size.
        count: spans of each sample.
        dim: along which they are, not 0.
        key: of the numbers, of shape (N, count, 2).
        training: True masks, False evaluates to x itself.
        value: what is written there.
        **place: `global_shape` and `start` of these numbers.

    Returns:
        An array like x. What is kept is not scaled.

    Raises:
        TypeError: as `dropout`.
        ValueError: `width must be from 0 to …, got …`; `dim must be …`.

    Source:
        Park et al., "SpecAugment", Interspeech 2019.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> mask_spans(jnp.ones((1, 2, 8)), 4, 1, -1, key=thinned.Key(0), training=True)[0, 0]
        Array([1., 0., 0., 0., 0., 1., 1., 1.], dtype=float32)
    """
    training = check_static(training)
    array: Any = jnp.asarray(x)
    check_dtype(array, "x")
    _boxes.check_value(value)
    _boxes.check_spans(width, count, dim, array.shape)
    words = _key.words(key)
    steps, first = places((array.shape[0], count, 2), None, **place)
    if not training or not count:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    inside = _spans(words, first, (array.shape[0], count, 2), steps, width, array.shape[dim])
    shape = [1] * array.ndim
    shape[0], shape[dim] = array.shape[0], array.shape[dim]
    return jnp.where(inside.reshape(shape), jnp.asarray(value, array.dtype), array)


@_philox.wide
def _spans(key: Any, start: Any, shape: Any, strides: Any, width: int, size: int) -> Any:
    drawn = _numbers.words(shape, strides, key, start).astype(np.int64)
    return _boxes.spans(drawn, width, size, jnp.arange(size, dtype=np.int64)).any(1)


@requires_training
def cutout(
    x: ArrayLike,
    size: int | tuple[int, int],
    p: ArrayLike = 1.0,
    *,
    key: AnyKey,
    training: bool,
    layout: str = "NHWC",
    value: float = 0.0,
    **place: Unpack[Place],
) -> jax.Array:
    """Mask a box of each picture whose centre is anywhere in it, with probability p.

    Args:
        x: (N, H, W, C); all channels have one box.
        size: of the box, which may reach over the edge: a number, or height and width.
        p: probability in [0, 1] that a picture has a box, as in `dropout`: outside it a traced one
            gives NaN.
        key: of the numbers, of shape (N, 3).
        training: True masks, False evaluates to x itself.
        layout: where N, H, W and C are: "NHWC", or "NCHW" as in PyTorch.
        value: what is written there.
        **place: `global_shape` and `start` of these numbers.

    Returns:
        An array like x. What is kept is not scaled.

    Raises:
        TypeError: as `dropout`.
        ValueError: `layout must have the letters N, H, W and C …`; `size must be positive, got …`.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017;
        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> float(cutout(jnp.ones((1, 4, 4, 1)), 2, key=thinned.Key(0), training=True).sum())
        12.0
    """
    training = check_static(training)
    array: Any = jnp.asarray(x)
    check_dtype(array, "x")
    _boxes.check_value(value)
    sides, axes = _boxes.check_box(size, layout, array.shape)
    drop = _rate.threshold(p)
    words = _key.words(key)
    n = array.shape[axes[0]]
    steps, first = places((n, 3), None, **place)
    if not training:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    sizes = (array.shape[axes[1]], array.shape[axes[2]])
    threshold = jnp.asarray(_rate.words(p, drop))
    inside = _box(words, first, n, steps, threshold, sides, sizes)
    inside = jnp.moveaxis(inside[..., None], (0, 1, 2, 3), axes)
    masked = jnp.where(inside, jnp.asarray(value, array.dtype), array)
    if drop is not None:
        return masked
    nothing = _rate.dropped(threshold, array.dtype)
    return jnp.where(jnp.isnan(nothing), nothing, masked)


@_philox.wide
def _box(key: Any, start: Any, n: Any, strides: Any, threshold: Any, sides: Any, sizes: Any) -> Any:
    word = _numbers.words((n, 3), strides, key, start)
    at = tuple(jnp.arange(size, dtype=np.int64) for size in sizes)
    dropped = ~_philox.at_least(word[:, 2], threshold)
    inside = _boxes.box(word.astype(np.int64), sides, at, sizes)  # type: ignore[arg-type]
    return inside & dropped[:, None, None]
