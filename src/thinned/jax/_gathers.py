"""Rows are taken out of an array and put back here by gathers; JAX's transpose of one is a scatter.

XLA makes a loop of a scatter on a CPU.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from thinned.jax._compat import Primitive, ad, batching, mlir

take_p = Primitive("thinned_take_rows")  # whole, ascending numbers of rows → these rows
put_p = Primitive("thinned_put_rows")  # rows, their numbers; size of the whole → zeros elsewhere


def take(whole: Any, kept: Any) -> Any:
    """The kept rows, of ascending numbers."""
    return take_p.bind(jnp.asarray(whole), jnp.asarray(kept))


def _take(whole: Any, kept: Any) -> Any:
    return whole.at[kept].get(mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True)


def _put(part: Any, kept: Any, *, size: int) -> Any:
    if not part.shape[0]:
        return jnp.zeros((size, *part.shape[1:]), part.dtype)
    rows = jnp.arange(size, dtype=kept.dtype)
    place = jnp.minimum(jnp.searchsorted(kept, rows), part.shape[0] - 1)
    here = (kept[place] == rows).reshape(-1, *(1,) * (part.ndim - 1))
    return jnp.where(here, part.at[place].get(mode="promise_in_bounds"), jnp.zeros((), part.dtype))


def _linear(primitive: Any, plain: Any, back: Any, rows: Any) -> None:
    """Registers a primitive that is linear in its first operand."""

    def shape(whole: Any, kept: Any, **parameters: Any) -> Any:
        return whole.update(shape=(rows(kept, **parameters), *whole.shape[1:]), weak_type=False)

    def jvp(primals: Any, tangents: Any, **parameters: Any) -> Any:
        out = primitive.bind(*primals, **parameters)
        if isinstance(tangents[0], ad.Zero):
            return out, ad.zeros_like_aval(jax.typeof(out).to_tangent_aval())
        return out, primitive.bind(tangents[0], primals[1], **parameters)

    def transpose(cotangent: Any, whole: Any, kept: Any, **_: Any) -> Any:
        if isinstance(cotangent, ad.Zero):
            return ad.Zero(whole.aval), None
        return back(cotangent, kept, whole.aval.shape[0]), None

    def batch(operands: Any, axes: Any, **parameters: Any) -> Any:
        return jax.vmap(lambda *each: plain(*each, **parameters), in_axes=axes)(*operands), 0

    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(plain, static_argnames=("size",) if primitive is put_p else ()))
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))


_linear(take_p, _take, lambda out, kept, size: put_p.bind(out, kept, size=size), lambda kept: kept.shape[0])
_linear(put_p, _put, lambda out, kept, size: take_p.bind(out, kept), lambda kept, size: size)
