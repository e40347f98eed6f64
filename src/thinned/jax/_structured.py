"""These functions drop parts of a structure: named axes, words, keys of attention, patches."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned._arguments import check_tokens, requires_training
from thinned._position import noise_of_names
from thinned.contract import check_integer, check_probability
from thinned.jax import _key, _numbers, _rate
from thinned.jax._dropout import check_dtype, check_static, dropout, keep_mask, places
from thinned.jax._types import AnyKey, Place


@requires_training
def spatial_dropout(
    x: ArrayLike,
    p: ArrayLike,
    layout: str,
    independent: str,
    *,
    key: AnyKey,
    training: bool,
    **place: Unpack[Place],
) -> jax.Array:
    """Dropout with one decision for each index of the axes that are named, shared along all others.

    Args:
        x: array of as many dimensions as `layout` has letters.
        p: as in `dropout`.
        layout: one letter for each dimension, "NHWC".
        independent: those with decisions of their own, "NC".
        key: as in `dropout`.
        training: True drops, False evaluates.
        **place: `global_shape` and `start` as in `dropout`.

    Returns:
        An array like x; kept times 1/(1−p), dropped +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `noise_shape … does not fit x of shape …`; `independent "…" is not in layout …`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> x = jnp.ones((1, 5, 2))
        >>> spatial_dropout(x, 0.5, "NLD", "NL", key=thinned.Key(0), training=True)[0, :, 0]
        Array([2., 0., 2., 2., 2.], dtype=float32)
    """
    noise = noise_of_names(layout, independent)
    if np.ndim(x) != len(noise):
        raise ValueError(f'layout "{layout}" has {len(noise)} letters and x {np.ndim(x)} dimensions')
    return dropout(x, p, key=key, training=training, noise_shape=noise, **place)


@requires_training
def word_dropout(
    tokens: ArrayLike,
    p: ArrayLike,
    replacement: int,
    *,
    key: AnyKey,
    training: bool,
    protected: tuple[int, ...] = (),
    **place: Unpack[Place],
) -> jax.Array:
    """Replace each token by another, the unknown word's as a rule, with probability p.

    Args:
        tokens: token numbers, integers of any shape.
        p: as in `dropout`.
        replacement: what a token is replaced by.
        key: of the mask, dropout's of the tokens' shape.
        training: True replaces, False evaluates to the tokens.
        protected: tokens that are never replaced: padding, beginning and end.
        **place: `global_shape` and `start` as in `dropout`.

    Returns:
        An array like the tokens. No scale is applied: tokens have none.

    Raises:
        TypeError: `tokens must be integers, got …`; else as `dropout`.
        ValueError: as `dropout`.

    Source:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015; Bowman et al.,
        "Generating Sentences from a Continuous Space", CoNLL 2016.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> word_dropout(jnp.array([5, 6, 7, 8, 9]), 0.5, 0, key=thinned.Key(0), training=True)
        Array([5, 0, 7, 8, 9], dtype=int32)
    """
    training = check_static(training)
    array = jnp.asarray(tokens)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"tokens must be integers, got {array.dtype}: dropout drops real numbers")
    replacement, *listed = check_tokens(replacement, protected, array.dtype.name)
    _rate.threshold(p)
    _key.words(key)
    places(array.shape, None, **place)
    if not training:
        return array
    kept = keep_mask(array.shape, p, key=key, **place)
    for token in listed:
        kept = kept | (array == token)
    return jnp.where(kept, array, jnp.asarray(replacement, array.dtype))


@requires_training
def drop_key(
    scores: ArrayLike, p: ArrayLike, *, key: AnyKey, training: bool, **place: Unpack[Place]
) -> jax.Array:
    """Softmax of scores, where each query does not see a key with probability p.

    Dropped are scores and not probabilities: what a query does see still adds up to 1.

    Args:
        scores: (…, queries, keys); float32, float64, float16 or bfloat16.
        p: as in `dropout`.
        key: of the mask.
        training: True drops, False evaluates.
        **place: `global_shape` and `start` as in `dropout`.

    Returns:
        Probabilities like the scores. A query that sees no key has zeros.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        Bonan Li et al., "DropKey for Vision Transformer", CVPR 2023.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> drop_key(jnp.zeros((1, 5)), 0.5, key=thinned.Key(0), training=True)
        Array([[0.25, 0.  , 0.25, 0.25, 0.25]], dtype=float32)
    """
    training = check_static(training)
    array = jnp.asarray(scores)
    check_dtype(array, "scores")
    if not array.ndim:
        raise ValueError("scores must be (…, queries, keys), got shape ()")
    drop = _rate.threshold(p)
    _key.words(key)
    places(array.shape, None, **place)
    kept = keep_mask(array.shape, p, key=key, **place) if training else jnp.bool_(True)
    none = ~(kept & (array != -jnp.inf)).any(-1, keepdims=True)
    # Where no key is left the softmax is of zeros, so that no gradient is NaN, and then taken away.
    shown = jnp.where(none, 0.0, jnp.where(kept, array, -jnp.inf))
    blind: Any = 0.0
    if training and drop is None:
        blind = _rate.dropped(_rate.words(p, None), array.dtype)
    return jnp.where(none, blind, jax.nn.softmax(shown, -1)).astype(array.dtype)


@requires_training
def patch_dropout(
    x: ArrayLike,
    p: float,
    *,
    key: AnyKey,
    training: bool,
    prefix_tokens: int = 1,
    **place: Unpack[Place],
) -> jax.Array:
    """Keep a fixed number of tokens of each sample, those of the largest numbers of the mask, in their order.

    Args:
        x: (N, L, …), tokens, of which the first may be none of the picture's.
        p: share of tokens that is dropped, a number in [0, 1]; at least one stays.
        key: of the mask, of shape (N, L − prefix_tokens).
        training: True drops, False evaluates to x itself.
        prefix_tokens: so many at the beginning, class tokens, always stay.
        **place: `global_shape` and `start` of the (N, L − prefix_tokens) numbers.

    Returns:
        (N, prefix_tokens + max(1, ⌊(1 − p)(L − prefix_tokens)⌋), …). What is kept is not scaled.

    Raises:
        TypeError: `p must be a real number, got …`: the output's shape is made of it.
        ValueError: `p must be in [0, 1], got …`; `patch_dropout takes (N, L, …), got shape …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> x = jnp.arange(9.0).reshape(1, 9, 1)
        >>> patch_dropout(x, 0.5, key=thinned.Key(0), training=True).ravel()
        Array([0., 1., 3., 4., 7.], dtype=float32)
    """
    training = check_static(training)
    array: Any = jnp.asarray(x)
    check_dtype(array, "x")
    if isinstance(p, jax.core.Tracer):
        raise TypeError("p must be a real number, got a traced one: the output's shape is made of it")
    p = check_probability(p)
    check_integer("prefix_tokens", prefix_tokens)
    tokens = array.shape[1] - prefix_tokens if array.ndim > 1 else -1
    if tokens < 1 or prefix_tokens < 0:
        raise ValueError(
            f"patch_dropout takes (N, L, …) with more than {prefix_tokens} tokens, got shape {array.shape}"
        )
    words = _key.words(key)
    steps, first = places((array.shape[0], tokens), None, **place)
    if not training or p == 0:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    drawn = _numbers.words((array.shape[0], tokens), steps, words, first)
    count = max(1, int((1.0 - p) * tokens))
    order = jnp.argsort(drawn, axis=1, descending=True, stable=True)[:, :count]
    index = jnp.sort(order, axis=1) + prefix_tokens
    front = jnp.broadcast_to(jnp.arange(prefix_tokens), (array.shape[0], prefix_tokens))
    index = jnp.concatenate([front.astype(index.dtype), index], 1)
    index = index.reshape(*index.shape, *(1,) * (array.ndim - 2))
    return jnp.take_along_axis(array, index, axis=1)
