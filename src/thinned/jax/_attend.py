"""Attention is computed here tile by tile: forward, its tangent and its gradient, with no T × S array.

Two primitives, so that JAX knows the derivatives under every transformation: attention, and its tangent,
which is linear and whose transpose is the backward pass. Both compute the probabilities of a tile again.

Operands: query (B, K, G, T, H), scaled, in the type that is computed in; key and value (B, K, S, ·); "bias",
which fits (B, K, G, T, S), if there is one; then the rest by name. Results: the output like query, and for
each query the largest score and the sum of exponentials above it, (B, K, G, T).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned.jax import _compat, _tiles
from thinned.jax._compat import Primitive, ad, batching, mlir
from thinned.jax._primitive import _immediate, _in_front
from thinned.jax._tiles import Spec, Tile

attend_p = Primitive("thinned_attention")
tangent_p = Primitive("thinned_attention_tangent")

_FLOATING = ("query", "key_heads", "value", "bias")


def _named(spec: Spec, operands: Any) -> dict[str, Any]:
    """The operands by their names, padded to whole tiles."""
    rows, columns = spec.tile
    arrays = dict(zip(spec.names, operands, strict=True))
    for name, dims in (
        ("query", {3: rows}),
        ("key_heads", {2: columns}),
        ("value", {2: columns}),
        ("bias", {3: rows, 4: columns}),
        ("mask", {3: rows, 4: columns}),
        ("threshold", {3: rows, 4: columns}),
        ("output", {3: rows}),
        ("largest", {3: rows}),
        ("total", {3: rows}),
    ):
        if name in arrays and arrays[name].ndim > 1:
            for dim, size in dims.items():
                arrays[name] = _tiles.padded(arrays[name], dim, size)
    return arrays


def _over_tiles(spec: Spec, step: Callable[[Any, Tile], Any], carry: Any, beside: Any) -> Any:
    """Carry sums, which vary over a mesh as what is `beside` them does, through all tiles but empty ones."""
    rows, columns = spec.tile

    def body(carry: Any, place: Any) -> Any:
        return step(carry, Tile(place[0] * rows, place[1] * columns, rows, columns)), None

    names, leaves = zip(*carry.items(), strict=True)
    varying = _compat.varying_alike([*leaves, *beside])[: len(leaves)]
    return lax.scan(body, dict(zip(names, varying, strict=True)), jnp.asarray(_tiles.tiles(spec)))[0]


def _scores(spec: Spec, tile: Tile, arrays: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The scores of a tile, where they may be seen, and its queries and keys."""
    query, key = (
        tile.of(arrays["query"], 3),
        _columns(tile, arrays["key_heads"]).astype(arrays["query"].dtype),
    )
    scores = jnp.einsum("bkgth,bksh->bkgts", query, key)
    if "bias" in arrays:
        scores = scores + tile.of(arrays["bias"], 3, 4).astype(scores.dtype)
    seen = _tiles.visible(spec, tile, arrays)
    if seen is not None:
        scores = jnp.where(seen, scores, np.asarray(spec.blind, scores.dtype))
    inside = _tiles.inside(spec, tile)
    if inside is not None:
        scores = jnp.where(inside, scores, -np.inf)
        seen = inside if seen is None else seen & inside
    return scores, seen, query, key


def _columns(tile: Tile, array: Any) -> Any:
    """The tile's keys, of an array (B, K, S, ·)."""
    return lax.dynamic_slice_in_dim(array, tile.column, tile.columns, 2)


def _put(whole: Any, part: Any, first: Any, dim: int) -> Any:
    return lax.dynamic_update_slice_in_dim(whole, part, first, dim)


def _add(whole: Any, part: Any, first: Any, dim: int) -> Any:
    before = lax.dynamic_slice_in_dim(whole, first, part.shape[dim], dim)
    return _put(whole, before + part, first, dim)


def forward(*operands: Any, spec: Spec) -> list[Any]:
    """Attention by an online softmax."""
    arrays = _named(spec, operands)
    query, value = arrays["query"], arrays["value"]
    groups = query.shape[2]

    def step(carry: Any, tile: Tile) -> Any:
        scores, *_ = _scores(spec, tile, arrays)
        drop = _tiles.dropper(spec, tile, groups, arrays, query.shape)
        before, total = tile.of(carry["largest"], 3), tile.of(carry["total"], 3)
        largest = jnp.maximum(before, scores.max(-1))
        shift = _finite(largest)
        weights, less = jnp.exp(scores - shift[..., None]), jnp.exp(before - shift)
        seen = jnp.einsum("bkgts,bksh->bkgth", drop(weights), _columns(tile, value).astype(query.dtype))
        sums = {
            "output": tile.of(carry["output"], 3) * less[..., None] + seen,
            "largest": largest,
            "total": total * less + weights.sum(-1),
        }
        return {name: _put(carry[name], part, tile.row, 3) for name, part in sums.items()}

    like = query.shape[:-1]
    start = {
        "output": jnp.zeros((*like, value.shape[-1]), query.dtype),
        "largest": jnp.full(like, -np.inf, query.dtype),
        "total": jnp.zeros(like, query.dtype),
    }
    end = _over_tiles(spec, step, start, arrays.values())
    output = end["output"] * _inverse(end["total"])[..., None]
    length = spec.lengths[0]
    return [
        lax.slice_in_dim(array, 0, length, axis=3)
        for array in (output, _finite(end["largest"]), end["total"])
    ]


def _finite(largest: Any) -> Any:
    """The number subtracted from scores: 0 where all of them are −∞, or +∞ or NaN would be made of them."""
    return jnp.where(jnp.isneginf(largest), jnp.zeros_like(largest), largest)


def _inverse(total: Any) -> Any:
    """1 over the sum of exponentials; 0 for a query that may look nowhere."""
    nowhere = total == 0
    return jnp.where(nowhere, jnp.zeros_like(total), 1 / jnp.where(nowhere, jnp.ones_like(total), total))


def _probabilities(scores: Any, tile: Tile, arrays: dict[str, Any]) -> Any:
    shift, total = tile.of(arrays["largest"], 3), tile.of(arrays["total"], 3)
    return jnp.exp(scores - shift[..., None]) * _inverse(total)[..., None]


def _where(seen: Any, numbers: Any) -> Any:
    return numbers if seen is None else jnp.where(seen, numbers, jnp.zeros_like(numbers))


def tangent(*operands: Any, spec: Spec, wanted: tuple[str, ...]) -> list[Any]:
    """The tangents of the output and of the sum; those of the operands `wanted` come last."""
    count = len(operands) - len(wanted)
    arrays = _named(spec, operands[:count])
    tangents = _named(spec._replace(names=wanted), operands[count:])
    groups, wide = arrays["query"].shape[2], arrays["query"].dtype
    value = arrays["value"]

    def step(carry: Any, tile: Tile) -> Any:
        scores, seen, query, key = _scores(spec, tile, arrays)
        drop = _tiles.dropper(spec, tile, groups, arrays, arrays["query"].shape)
        weights = _probabilities(scores, tile, arrays)
        moved = jnp.zeros((), wide)
        if "query" in tangents:
            moved += jnp.einsum("bkgth,bksh->bkgts", tile.of(tangents["query"], 3), key)
        if "key_heads" in tangents:
            other = _columns(tile, tangents["key_heads"]).astype(wide)
            moved += jnp.einsum("bkgth,bksh->bkgts", query, other)
        if "bias" in tangents:
            moved += tile.of(tangents["bias"], 3, 4).astype(wide)
        moved = weights * _where(seen, jnp.broadcast_to(moved, weights.shape))
        part = jnp.einsum("bkgts,bksh->bkgth", drop(moved), _columns(tile, value).astype(wide))
        if "value" in tangents:
            other = _columns(tile, tangents["value"]).astype(wide)
            part += jnp.einsum("bkgts,bksh->bkgth", drop(weights), other)
        return {
            "output": _add(carry["output"], part, tile.row, 3),
            "sum": _add(carry["sum"], moved.sum(-1), tile.row, 3),
        }

    start = {"output": jnp.zeros_like(arrays["output"]), "sum": jnp.zeros_like(arrays["total"])}
    end = _over_tiles(spec, step, start, [*arrays.values(), *tangents.values()])
    output = end["output"] - end["sum"][..., None] * arrays["output"]
    return [
        lax.slice_in_dim(array, 0, spec.lengths[0], axis=3)
        for array in (output, end["sum"] * arrays["total"])
    ]


def backward(of_output: Any, of_total: Any, *operands: Any, spec: Spec, wanted: tuple[str, ...]) -> list[Any]:
    """The gradients of the operands `wanted`: the transpose of `tangent`."""
    arrays = _named(spec, operands)
    rows, _ = spec.tile
    groups, wide = arrays["query"].shape[2], arrays["query"].dtype
    of_output, of_total = _tiles.padded(of_output, 3, rows), _tiles.padded(of_total, 3, rows)
    delta = (of_output * arrays["output"]).sum(-1) - of_total * arrays["total"]

    def step(carry: Any, tile: Tile) -> Any:
        scores, seen, query, key = _scores(spec, tile, arrays)
        drop = _tiles.dropper(spec, tile, groups, arrays, arrays["query"].shape)
        weights, upstream = _probabilities(scores, tile, arrays), tile.of(of_output, 3)
        value = _columns(tile, arrays["value"]).astype(wide)
        through = drop(jnp.einsum("bkgth,bksh->bkgts", upstream, value))
        scores = _where(seen, weights * (through - tile.of(delta, 3)[..., None]))
        end = dict(carry)
        if "query" in carry:
            end["query"] = _add(carry["query"], jnp.einsum("bkgts,bksh->bkgth", scores, key), tile.row, 3)
        if "key_heads" in carry:
            part = jnp.einsum("bkgts,bkgth->bksh", scores, query)
            end["key_heads"] = _add(carry["key_heads"], part, tile.column, 2)
        if "value" in carry:
            part = jnp.einsum("bkgts,bkgth->bksh", drop(weights), upstream)
            end["value"] = _add(carry["value"], part, tile.column, 2)
        if "bias" in carry:
            end["bias"] = _add_fitting(carry["bias"], scores, tile)
        return end

    start = {name: jnp.zeros(arrays[name].shape, wide) for name in wanted}
    end = _over_tiles(spec, step, start, [*arrays.values(), of_output, of_total])
    whole = dict(zip(spec.names, operands, strict=True))
    return [_cropped(end[name], whole[name]).astype(whole[name].dtype) for name in wanted]


def _add_fitting(whole: Any, scores: Any, tile: Tile) -> Any:
    """Add a tile's scores to what they were the sum of: dimensions that were shared are summed."""
    shared = tuple(d for d, size in enumerate(whole.shape) if size == 1 and scores.shape[d] != 1)
    part = scores.sum(shared, keepdims=True)
    first = [jnp.zeros((), np.int32)] * 5
    for dim, place in ((3, tile.row), (4, tile.column)):
        if whole.shape[dim] != 1:
            first[dim] = place
    before = lax.dynamic_slice(whole, first, part.shape)
    return lax.dynamic_update_slice(whole, before + part, first)


def _cropped(array: Any, like: Any) -> Any:
    for dim, size in enumerate(like.shape):
        if array.shape[dim] != size:
            array = lax.slice_in_dim(array, 0, size, axis=dim)
    return array


def _batched(function: Any, spec: Spec, **parameters: Any) -> Any:
    """The function of one example, of all of `spec.batch` dimensions in front."""
    function = functools.partial(function, spec=spec._replace(batch=0), **parameters)
    for _ in range(spec.batch):
        function = jax.vmap(function)
    return function


def _attend(*operands: Any, spec: Spec) -> Any:
    return _batched(forward, spec)(*operands)


def _tangent(*operands: Any, spec: Spec, wanted: tuple[str, ...]) -> Any:
    return _batched(tangent, spec, wanted=wanted)(*operands)


def _attend_shapes(query: Any, key: Any, value: Any, *_: Any, spec: Spec) -> Any:
    return [
        query.update(shape=(*query.shape[:-1], value.shape[-1])),
        query.update(shape=query.shape[:-1]),
        query.update(shape=query.shape[:-1]),
    ]


def _attend_jvp(primals: Any, tangents: Any, *, spec: Spec) -> Any:
    output, largest, total = attend_p.bind(*primals, spec=spec)
    zero = [ad.zeros_like_aval(jax.typeof(one).to_tangent_aval()) for one in (output, largest, total)]
    moving = {
        name: one
        for name, one in zip(spec.names, tangents, strict=True)
        if name in _FLOATING and not isinstance(one, ad.Zero)
    }
    if not moving:
        return [output, largest, total], zero
    names = (*spec.names, "output", "largest", "total")
    of_output, of_total = tangent_p.bind(
        *primals,
        output,
        largest,
        total,
        *moving.values(),
        spec=spec._replace(names=names),
        wanted=tuple(moving),
    )
    return [output, largest, total], [of_output, zero[1], of_total]


def _tangent_shapes(*operands: Any, spec: Spec, wanted: tuple[str, ...]) -> Any:
    arrays = dict(zip(spec.names, operands, strict=False))
    return [arrays["output"], arrays["total"]]


def _tangent_jvp(primals: Any, tangents: Any, **parameters: Any) -> Any:
    """Differentiates by the passes' own operations, which keep each tile's probabilities."""
    moving = [k for k, one in enumerate(tangents) if not isinstance(one, ad.Zero)]

    def function(*some: Any) -> Any:
        operands = list(primals)
        for k, one in zip(moving, some, strict=True):
            operands[k] = one
        return _tangent(*operands, **parameters)

    return jax.jvp(function, [primals[k] for k in moving], [tangents[k] for k in moving])


def _tangent_transpose(cotangents: Any, *operands: Any, spec: Spec, wanted: tuple[str, ...]) -> Any:
    count = len(operands) - len(wanted)
    if all(isinstance(one, ad.Zero) for one in cotangents):
        return [None] * count + [ad.Zero(one.aval) for one in operands[count:]]
    known = operands[:count]
    upstream = [ad.instantiate_zeros(one) if isinstance(one, ad.Zero) else one for one in cotangents]
    return [None] * count + _batched(backward, spec, wanted=wanted)(*upstream, *known)


def _batch(primitive: Any, operands: Any, axes: Any, *, spec: Spec, **parameters: Any) -> Any:
    moved, axis = _in_front(operands, axes)
    results = primitive.bind(*moved, spec=spec._replace(batch=spec.batch + 1), **parameters)
    return results, [axis] * len(results)


def _register(primitive: Any, function: Any, shapes: Any, *static: str) -> None:
    primitive.multiple_results = True
    primitive.def_abstract_eval(shapes)
    primitive.def_impl(_immediate(primitive, *static))
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True))
    if _compat.prim_requires_devices_during_lowering is not None:  # of the mask, inside
        _compat.prim_requires_devices_during_lowering.add(primitive)


_register(attend_p, _attend, _attend_shapes, "spec")
_register(tangent_p, _tangent, _tangent_shapes, "spec", "wanted")
ad.primitive_jvps[attend_p] = _attend_jvp
ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_transposes[tangent_p] = _tangent_transpose
