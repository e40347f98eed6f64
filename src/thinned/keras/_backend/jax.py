"""Keras on JAX uses the functions of `thinned.jax`."""

from __future__ import annotations

import functools
import sys
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from thinned._position import Shape
from thinned.contract import Key
from thinned.jax import _boxes, _compat, _dropout, _key, _learned, _structured
from thinned.jax._attention import attend


def is_eager(state: Any) -> bool:
    """Tells whether the state's numbers are known."""
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
    """Returns None: JAX runs a block's Python once, and computes again what that traced.

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
    """`thinned.jax.variational_dropout` at a number, in training."""
    return _learned.variational_dropout(x, rate, key=key, training=True)


def fold(key: Any, number: int) -> Any:
    """`thinned.jax.fold`."""
    return _key.fold(key, number)


def concrete_dropout(x: Any, p: Any, key: Any, temperature: float, noise_shape: Any) -> Any:
    """`thinned.jax.concrete_dropout`, in training."""
    return _learned.concrete_dropout(
        x, p, key=key, training=True, temperature=temperature, noise_shape=noise_shape
    )


def mask_spans(x: Any, width: int, count: int, dim: int, key: Any, value: float) -> Any:
    """`thinned.jax.mask_spans`, in training."""
    return _boxes.mask_spans(x, width, count, dim, key=key, training=True, value=value)


def cutout(x: Any, size: Any, rate: float, key: Any, layout: str, value: float) -> Any:
    """`thinned.jax.cutout`, in training."""
    return _boxes.cutout(x, size, rate, key=key, training=True, layout=layout, value=value)


def word_dropout(tokens: Any, rate: float, replacement: int, key: Any, protected: tuple[int, ...]) -> Any:
    """`thinned.jax.word_dropout`, in training."""
    return _structured.word_dropout(tokens, rate, replacement, key=key, training=True, protected=protected)
