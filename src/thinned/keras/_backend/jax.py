"""Keras on JAX: the verbs of `thinned.jax`."""

from __future__ import annotations

import functools
import math
import sys
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from thinned import contract
from thinned._arguments import UNUSED
from thinned._position import Shape
from thinned.contract import Key
from thinned.jax import _compat, _dropout, _key, _philox, _primitive
from thinned.jax._attention import attend
from thinned.keras._backend import _normal


def is_eager(state: Any) -> bool:
    """Whether the state's numbers are known."""
    return not isinstance(state, jax.core.Tracer)


def numbers(state: Any) -> npt.NDArray[Any]:
    """The two of a state that is not traced."""
    return np.asarray(state)


def assign(state: Any, value: npt.NDArray[Any]) -> None:
    """Set a state's numbers: at once, though a block around may be traced."""
    with jax.ensure_compile_time_eval():
        state.assign(value)


def advance(generator: Any) -> Any:
    """The state before, in a graph that moves it on: that around a `jax.checkpoint`, if there is one."""
    with _compat.outside_checkpoints():
        return generator.next()


def replica() -> tuple[int, int]:
    """A sharded array is one array."""
    return 0, 1


def blocks(make: Any) -> None:
    """None: JAX runs a block's Python once, and computes again what that traced.

    It keeps what it traced with the function, for a next call: that would have the same mask.
    """
    function = _function_of_checkpoint()
    if function is not None and not isinstance(function, (types.MethodType, functools.partial)):
        warnings.warn(
            f"{function!r} drops inside keras.remat, and JAX traces it once for all its calls: they have one "
            "mask. Where it is called more than once, give keras.remat a new function for each call, as in "
            "keras.remat(functools.partial(block))(x)",
            RuntimeWarning,
            stacklevel=2,
        )


def _function_of_checkpoint() -> Any:
    """The function that `jax.checkpoint` is tracing, if it is; None where its frames are not known."""
    frame = sys._getframe(2) if _compat.checkpoint_traces() else None
    while frame is not None:
        if frame.f_code.co_name == "fun_remat":
            return frame.f_locals.get("fun")
        frame = frame.f_back
    return None


def derive(state: Any, base: Key | None, name: int, replica: Any, replicas: Any) -> Any:
    """The key of a call, in the graph: of the state's seed and a name, or of a base, folded by its number."""
    if base is not None:
        return _key.fold(base, state[1])
    none = jnp.zeros_like(state[0])
    return _key.fold(_key.fold(jnp.stack([state[0], none, none, none]), name), state[1])


def dropout(
    x: Any, rate: float, key: Any, training: bool, noise_shape: Any = None, mode: Any = "inverted"
) -> Any:
    """`thinned.jax.dropout`."""
    return _dropout.dropout(x, rate, key=key, training=training, noise_shape=noise_shape, mode=mode)


def keep_mask(shape: Shape, rate: float, key: Key) -> Any:
    """`thinned.jax.keep_mask`."""
    return _dropout.keep_mask(shape, rate, key=key)


def attention(
    query: Any, key: Any, value: Any, mask: Any, rate: float, dropout_key: Any, scale: float, causal: bool
) -> Any:
    """Attention of (batch, length, heads, depth) by `thinned.jax`, tile by tile, in training."""
    output, _ = attend(query, key, value, None, mask, rate, dropout_key, scale=scale, is_causal=causal)
    return output


def gaussian_dropout(x: Any, rate: float, key: Any) -> Any:
    """Multiply by 1 + σ z, in training."""
    return _multiply(_checked(x), _key.words(key), math.sqrt(rate / (1.0 - rate)))


def _checked(x: Any) -> Any:
    return _dropout.dropout(x, 0.0, key=UNUSED, training=True)


@jax.jit
@jax.checkpoint  # so that the noise is made again for the gradient, and none of it kept
def _multiply(x: Any, key: Any, sigma: Any) -> Any:
    wide = np.float64 if x.dtype == np.float64 else np.float32
    # The maximum is the product; without it XLA would round product and sum as one.
    spread = jnp.maximum(_noise(x.shape, key).astype(wide) * jnp.asarray(sigma, wide), _normal.LEAST)
    noise = spread + wide(1.0)
    return _primitive.rounded(x.astype(wide) * noise, x.dtype)


@_philox.wide
def _noise(shape: tuple[int, ...], key: Any) -> Any:
    """Normal deviates in float32."""
    position = lax.iota(np.uint64, math.prod(shape)).reshape(shape)
    words = [key[k] for k in range(4)]
    high, low = (
        _philox.halfword(position, words, purpose)
        for purpose in (contract.PURPOSE_NOISE_HIGH, contract.PURPOSE_NOISE_LOW)
    )
    v = (high << np.uint32(16)) | low
    z = _normal.quantile(v.astype(np.float64), jnp.where, jnp.sqrt, jnp.log)
    return z.astype(np.float32)
