"""Concrete and variational dropout multiply by noise whose rate has a gradient."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from thinned import _concrete, _normal
from thinned._arguments import check_training, requires_training
from thinned.contract import check_probability
from thinned.jax import _key, _numbers, _philox
from thinned.jax._dropout import check_dtype, check_static, places
from thinned.jax._primitive import rounded
from thinned.jax._types import AnyKey, Place

# What `_concrete` takes of a library.
OPERATORS = SimpleNamespace(
    exp=jnp.exp,
    log=jnp.log,
    log1p=jnp.log1p,
    sigmoid=jax.nn.sigmoid,
    softplus=jax.nn.softplus,
    where=jnp.where,
)


@requires_training
def concrete_dropout(
    x: ArrayLike,
    p: ArrayLike,
    *,
    key: AnyKey,
    training: bool,
    temperature: float = 0.1,
    noise_shape: tuple[int | None, ...] | None = None,
    **place: Unpack[Place],
) -> jax.Array:
    """Multiply by a relaxed mask over 1 − p: a sigmoid in place of dropout's step, differentiable in p.

    With u the mask's own uniform numbers, what is kept of an element is
    σ(−(logit p − logit u) / temperature). The mask is computed again for the gradient: only x and p are kept.

    Args:
        x: array of any shape; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or an array that broadcasts to x; it has a gradient. One
            that is traced and outside gives NaN.
        key: as in `dropout`.
        training: True multiplies, False evaluates to x itself.
        temperature: positive; the paper's is 0.1.
        noise_shape: one entry a dimension: 1 shares the number along it.
        **place: `global_shape` and `start` as in `dropout`.

    Returns:
        An array like x. At p = 0 all is kept as it is, at p = 1 all is +0.0; there p gets no gradient.

    Raises:
        TypeError: `p must be a real number, got …`; `training is missing …`.
        ValueError: `p must be in [0, 1], got …`; `temperature must be positive, got …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017, equation 5.

    Example:
        >>> import jax, jax.numpy as jnp, thinned
        >>> loss = lambda p: concrete_dropout(jnp.ones(5), p, key=thinned.Key(0), training=True).sum()
        >>> bool(jax.grad(loss)(0.5) != 0)
        True
    """
    array, rate, training = _checked(x, p, training)
    _concrete.check_positive(temperature=temperature)
    steps, first = places(array.shape, noise_shape, **place)
    words = _key.words(key)
    if not training:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    static = {"strides": steps, "temperature": float(temperature)}
    return _numbers.recomputed(_relaxed)(array, rate, words, first, **static)  # type: ignore[no-any-return]


@_philox.wide
def _odds(shape: Any, strides: Any, key: Any, start: Any, dtype: Any) -> Any:
    """Logit u of the mask's numbers, u = (word + ½) / 2^32."""
    u = (_numbers.words(shape, strides, key, start).astype(np.float64) + 0.5) / 2.0**32
    return (jnp.log(u) - jnp.log1p(-u)).astype(dtype)


def _relaxed(x: Any, p: Any, key: Any, start: Any, *, strides: Any, temperature: float) -> Any:
    wide = _wide(x)
    rate = p.astype(wide)
    least, half = np.finfo(wide).tiny, np.finfo(wide).eps / 2
    inside = jnp.clip(rate, least, wide(1.0) - half)
    odds = _odds(x.shape, strides, key, start, wide)
    value = _concrete.relaxed(x.astype(wide), odds, rate, inside, temperature, OPERATORS, (1.0, 0.0))
    return rounded(value, x.dtype)


@requires_training
def variational_dropout(
    x: ArrayLike,
    p: ArrayLike,
    *,
    key: AnyKey,
    training: bool,
    noise_shape: tuple[int | None, ...] | None = None,
    **place: Unpack[Place],
) -> jax.Array:
    """Multiply by 1 + √α z, with α = p/(1−p) and standard normal z: Gaussian dropout, differentiable in p.

    Args:
        x: array of any shape; float32, float64, float16 or bfloat16.
        p: in [0, 1), a number or an array that broadcasts to x; it has a gradient. One that is traced
            and outside gives NaN.
        key: of the noise.
        training: True multiplies, False evaluates to x itself.
        noise_shape: one entry a dimension: 1 shares z along it.
        **place: `global_shape` and `start` as in `dropout`.

    Returns:
        An array like x. The noise is drawn again for the gradient: only x and p are kept.

    Raises:
        TypeError: `p must be a real number, got …`; `training is missing …`.
        ValueError: `p must be in [0, 1], got …`; `p must be in [0, 1), got 1 …`.

    Source:
        Kingma, Salimans and Welling, "Variational Dropout and the Local Reparameterization Trick",
        NeurIPS 2015, section 3.1.

    Example:
        >>> import jax.numpy as jnp, thinned
        >>> y = variational_dropout(jnp.ones(3), 0.5, key=thinned.Key(0), training=True)
        >>> [round(float(v), 4) for v in y]
        [1.766, 0.0243, -0.0084]
    """
    array, rate, training = _checked(x, p, training)
    known = not isinstance(p, jax.core.Tracer)
    if known and bool((np.asarray(p) == 1).any()):
        raise ValueError("p must be in [0, 1), got 1: the noise's standard deviation √(p/(1−p)) is infinite")
    steps, first = places(array.shape, noise_shape, **place)
    words = _key.words(key)
    if not training:
        return array  # type: ignore[no-any-return]
    _key.spend(key)
    if known and not np.ndim(p):  # in double, as a number's deviation is elsewhere
        sigma = jnp.asarray(math.sqrt(float(p) / (1.0 - float(p))), _wide(array))  # type: ignore[arg-type]
    else:
        wide = rate.astype(_wide(array))
        odds = wide / (1.0 - wide)
        sigma = jnp.where(odds > 0, jnp.sqrt(jnp.where(odds > 0, odds, 1.0)), 0.0)
        sigma = jnp.where((wide >= 0) & (wide < 1), sigma, jnp.nan)
    return multiply(array, sigma, words, first, steps)  # type: ignore[no-any-return]


def multiply(x: Any, sigma: Any, key: Any, start: Any, strides: Any) -> Any:
    """X · (1 + σ z), whose noise is drawn again for the gradient."""
    return _numbers.recomputed(_noisy)(x, sigma, key, start, strides=strides)


def _noisy(x: Any, sigma: Any, key: Any, start: Any, *, strides: Any) -> Any:
    wide = _wide(x)
    z = _numbers.normal(x.shape, strides, key, start).astype(wide)
    # The maximum is the product; without it XLA would round product and sum as one.
    noise = jnp.maximum(z * sigma.astype(wide), _normal.LEAST) + wide(1.0)
    return rounded(x.astype(wide) * noise, x.dtype)


def _wide(x: Any) -> Any:
    return np.float64 if x.dtype == np.float64 else np.float32


def _checked(x: Any, p: Any, training: Any) -> tuple[Any, Any, bool]:
    training = check_static(training) if not isinstance(training, bool) else check_training(training)
    array = jnp.asarray(x)
    check_dtype(array, "x")
    if not isinstance(p, jax.core.Tracer):
        known = np.asarray(p)  # inside a trace an operation of JAX's would be traced
        if not known.ndim or known.dtype.kind == "b":
            check_probability(p)
        elif known.size:
            for worst in (known.min(), known.max()):
                check_probability(float(worst))
    rate = jnp.asarray(p)
    if not jnp.issubdtype(rate.dtype, jnp.floating):
        rate = rate.astype(_wide(array))
    if jnp.broadcast_shapes(rate.shape, array.shape) != array.shape:
        raise ValueError(f"p of shape {rate.shape} does not fit x of shape {array.shape}")
    return array, rate, training
