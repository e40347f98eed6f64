"""Dropout and its mask are two primitives, with a rule for each of JAX's transformations."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.jax import _compat, _native, _philox, _rate
from thinned.jax._compat import Primitive, ad, batching, mlir

# Operands: x, of shape (*batch, *shape); keys, uint32 (*batch, 4); thresholds, uint32 (*batch, 2); starts,
# uint32 (*batch, dimensions, 2). Parameters: the positions' strides, one for each dimension of shape;
# inverted or classic.
dropout_p = Primitive("thinned_dropout")
# The same without x, and with the shape as a parameter.
keep_p = Primitive("thinned_keep_mask")


def dropout_plain(
    x: Any, key: Any, threshold: Any, start: Any, *, strides: tuple[int, ...], inverted: bool
) -> Any:
    """Dropout in `jax.numpy`."""
    kept = _philox.keep(x.shape, strides, key, threshold, start)
    spread = (*threshold.shape[:-1], *(1,) * len(strides))
    dropped = _rate.dropped(threshold, x.dtype).reshape(spread)
    if not inverted:
        return jnp.where(kept, x, dropped)
    wide = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    factor = _rate.scale(threshold, wide).reshape(spread)
    return jnp.where(kept, rounded(x.astype(wide) * factor, x.dtype), dropped)


def keep_plain(
    key: Any, threshold: Any, start: Any, *, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Any:
    """A mask in `jax.numpy`."""
    whole = (*key.shape[:-1], *shape)
    return jnp.broadcast_to(_philox.keep(whole, strides, key, threshold, start), whole)


def rounded(x: Any, dtype: Any) -> Any:
    """X in a narrower type, rounded although XLA may keep excess precision between two operations."""
    if dtype == jnp.bfloat16:
        return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7).astype(dtype)
    narrow = x.astype(dtype)
    return lax.optimization_barrier(narrow) if dtype == np.float16 else narrow


def _keep_shape(
    key: Any, threshold: Any, start: Any, *, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Any:
    return key.update(shape=(*key.shape[:-1], *shape), dtype=np.dtype(np.bool_), weak_type=False)


def _immediate(primitive: Any, *static: str) -> Any:
    """The primitive outside any trace: compiled, under `jax.disable_jit` too, as JAX's own primitives are.

    Without the inner context a jitted `bind` would run as Python, find no trace, and come here again.
    """
    compiled = jax.jit(primitive.bind, static_argnames=static)

    def run(*operands: Any, **parameters: Any) -> Any:
        with jax.disable_jit(False):
            return compiled(*operands, **parameters)

    return run


def _jvp(primals: Any, tangents: Any, **parameters: Any) -> Any:
    x, *rest = primals
    out = dropout_p.bind(x, *rest, **parameters)
    if isinstance(tangents[0], ad.Zero):
        return out, ad.zeros_like_aval(jax.typeof(out).to_tangent_aval())
    return out, dropout_p.bind(tangents[0], *rest, **parameters)


def _transpose(cotangent: Any, x: Any, *rest: Any, **parameters: Any) -> Any:
    if isinstance(cotangent, ad.Zero):
        return (ad.Zero(x.aval), None, None, None)
    return (dropout_p.bind(cotangent, *rest, **parameters), None, None, None)


def _jet(primals: Any, series: Any, **parameters: Any) -> Any:
    """Taylor coefficients: those of x, dropped; the key, the threshold and the start are integers."""
    _, *rest = primals
    return dropout_p.bind(*primals, **parameters), [
        dropout_p.bind(term, *rest, **parameters) for term in series[0]
    ]


def _in_front(operands: Any, axes: Any) -> tuple[list[Any], int]:
    """All operands with the mapped axis first: a mask each, so that what is not mapped is repeated."""
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    return moved, 0


def _dropout_batch(operands: Any, axes: Any, **parameters: Any) -> Any:
    moved, axis = _in_front(operands, axes)
    return dropout_p.bind(*moved, **parameters), axis


def _keep_batch(operands: Any, axes: Any, **parameters: Any) -> Any:
    moved, axis = _in_front(operands, axes)
    return keep_p.bind(*moved, **parameters), axis


dropout_p.def_abstract_eval(lambda x, *_, **__: x)
dropout_p.def_impl(_immediate(dropout_p, "strides", "inverted"))
keep_p.def_abstract_eval(_keep_shape)
keep_p.def_impl(_immediate(keep_p, "shape", "strides"))
ad.primitive_jvps[dropout_p] = _jvp
ad.primitive_transposes[dropout_p] = _transpose
_compat.jet_rules[dropout_p] = _jet
batching.primitive_batchers[dropout_p] = _dropout_batch
batching.primitive_batchers[keep_p] = _keep_batch


def _lower(primitive: Any, plain: Any, native: Any) -> None:
    """`jax.numpy` everywhere, the kernel on a CPU, where a mesh can divide it.

    A program that `jax.export` writes is to run where this library is not: it gets `jax.numpy`.
    """
    anywhere = mlir.lower_fun(plain, multiple_results=False)
    mlir.register_lowering(primitive, anywhere)
    if not _native.register():
        return

    def on_cpu(context: Any, *operands: Any, **parameters: Any) -> Any:
        # XLA divides custom calls over all axes of a mesh or none.
        if _compat.is_for_export(context) or _compat.is_partly_manual(context):
            return anywhere(context, *operands, **parameters)
        by_kernel = functools.partial(native, around=_compat.get_concrete_mesh())
        return mlir.lower_fun(by_kernel, multiple_results=False)(context, *operands, **parameters)

    mlir.register_lowering(primitive, on_cpu, platform="cpu")
    # A lowering that divides has to see the devices.
    _compat.prim_requires_devices_during_lowering.add(primitive)


_lower(dropout_p, dropout_plain, _native.dropout)
_lower(keep_p, keep_plain, _native.keep_mask)
