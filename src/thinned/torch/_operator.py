"""The operators `thinned::dropout` and `thinned::keep_mask`.

They are what torch.compile, torch.func, fake tensors, tensor subclasses and every device see. Key and p are
tensors, so that a graph depends on neither value. Nothing of the input is saved: the backward pass recomputes
the mask from the key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._arguments import effect
from thinned._position import positions, row_major
from thinned.contract import Key, threshold
from thinned.torch import _cuda, _doubles, _mesh, _native, _operands, _plain, _rate
from thinned.torch._autograd import self_adjoint
from thinned.torch._batching import Sizes, batched, noise_of, words_for
from thinned.torch._words import words_of

_library = torch.library.Library("thinned", "FRAGMENT")

# p is a number, or has one entry, its size or 1, for each dimension of the input. Dimensions of key in front
# of its last are the input's first ones, one key each; positions count in what remains.
_library.define(
    "dropout(Tensor input, Tensor key, Tensor p, bool inverted=True, SymInt[]? noise_shape=None, "
    "SymInt[]? global_shape=None, SymInt[]? start=None, SymInt[]? step=None, "
    "int[]? coordinate=None) -> Tensor"
)
_library.define(
    "keep_mask(SymInt[] shape, Tensor key, Tensor p, SymInt[]? global_shape=None, SymInt[]? start=None)"
    " -> Tensor"
)

# Below so many elements to each of many keys, a loop of kernel calls (6 µs each) is slower than torch's own
# operators (0.3 µs an element).
_WORTH_A_CALL = 20


def dropout(input: Tensor, key: Tensor, p: Tensor, *rest: Any) -> Tensor:
    """Call `thinned::dropout`."""
    result: Tensor = torch.ops.thinned.dropout(input, key, p, *rest, **_mesh.prepare(input))
    return result


def dropout_from(base: int, input: Tensor, key: Tensor, p: Tensor) -> Tensor:
    """The same for elements, in C order, of consecutive positions from `base` on."""
    if isinstance(base, int) and not base:
        return dropout(input, key, p)
    flat = input.reshape(-1)
    return dropout(flat, key, p, True, None, [base + flat.numel()], [base]).reshape(input.shape)


def keep_mask(shape: Sequence[int], key: Tensor, p: Tensor, *rest: Any) -> Tensor:
    """Call `thinned::keep_mask`."""
    result: Tensor = torch.ops.thinned.keep_mask(shape, key, p, *rest)
    return result


def _dropout(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    inverted: bool = True,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
    coordinate: Sizes = None,
) -> Tensor:
    if not input.numel():
        return torch.empty_like(input)
    many = key.dim() - 1
    shape = tuple(input.shape[many:])
    base, strides = positions(shape, noise_of(noise_shape), global_shape, start, step)
    if p.numel() == 1 and _cuda.serves(input):
        from thinned.torch._triton import _launch

        return _launch.dropout(input, torch.empty_like(input), key, p, inverted, base, strides)
    if many and input.is_cpu and not p.dim():
        drop, factor = effect(threshold(p.item()), True, inverted)
        rows = _native.many(input, key, drop, factor, base, strides or row_major(shape))
        if rows is not None:
            return rows
    calls = max(key.numel() // 2, 1) * max(p.numel(), 1)
    if not input.is_cpu or (calls > 1 and input.numel() < calls * _WORTH_A_CALL):
        words, drops, factors = _tensors(input, key, p, inverted)
        return _plain.dropout(input, words, drops, factors, base, strides or row_major(shape))
    if calls == 1 and not many and not p.dim():
        drop, factor = effect(threshold(p.item()), True, inverted)
        return _native.run(input, _native.fresh(input), (*words_of(key), drop, factor, base, strides))
    out = _native.fresh(input)
    steps = (0,) * many + (strides or row_major(shape))
    for index, each, rate in _cells(key, p, input.dim()):
        drop, factor = effect(threshold(rate), True, inverted)
        offset = sum(i * step for i, step in zip(index, steps, strict=True) if isinstance(i, int))
        inner = tuple(step for i, step in zip(index, steps, strict=True) if not isinstance(i, int))
        _native.run(input[index], out[index], (*words_of(each), drop, factor, base + offset, inner))
    return out


def _cells(key: Tensor, p: Tensor, rank: int) -> Iterator[tuple[tuple[int | slice, ...], Tensor, float]]:
    """The parts of the input that have one key and one p: their index, key and p."""
    many = key.dim() - 1
    sizes = p.shape if p.dim() else (1,) * rank
    every: list[Any] = [range(n) for n in key.shape[:-1]]
    every += [range(n) if n > 1 else [slice(None)] for n in sizes[many:]]
    for index in itertools.product(*every):
        of_p = tuple(i if n > 1 else 0 for i, n in zip(index, sizes, strict=True)) if p.dim() else ()
        yield index, key[index[:many]], p[of_p].item()


def _tensors(input: Tensor, key: Tensor, p: Tensor, inverted: bool) -> tuple[Any, Tensor, Tensor]:
    """Key words, drop threshold and factor, of shapes that broadcast to the input's."""
    if p.is_cpu:
        _rate.check_range(p)
    p = _doubles.double(p)
    # On a device nobody can look at p without waiting for it: what is no probability gives NaN.
    valid = (p >= 0) & (p <= 1)
    drop = torch.where(valid, torch.round(p * 2.0**32), 0.0).long()
    factor = torch.where(drop < 2**32, 2.0**32 / (2.0**32 - drop.double()), 0.0)
    factor = torch.where(valid, factor if inverted else torch.ones_like(factor), torch.nan)
    wide = torch.promote_types(input.dtype, torch.float32)
    return words_for(input, key), drop.to(input.device), factor.to(wide).to(input.device)


def _dropout_vmap(
    info: Any,
    in_dims: Any,
    input: Tensor,
    key: Tensor,
    p: Tensor,
    inverted: bool = True,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
    coordinate: Sizes = None,
) -> tuple[Tensor, int]:
    input, key, p, *shapes = batched(
        info.batch_size, in_dims, input, key, p, noise_shape, global_shape, start, step
    )
    return dropout(input, key, p, inverted, *shapes), 0


def _keep_mask(
    shape: Sequence[int], key: Tensor, p: Tensor, global_shape: Sizes = None, start: Sizes = None
) -> Tensor:
    _check_mask(key, p)
    base, strides = positions(tuple(shape), None, global_shape, start)
    out = torch.empty(tuple(shape), dtype=torch.bool, device="cpu")
    return _native.mask(out, Key(*words_of(key)), threshold(p.item()), base, strides)


def _keep_mask_fake(shape: Sequence[int], key: Tensor, p: Tensor, *_: Sizes) -> Tensor:
    _check_mask(key, p)
    return torch.empty(shape, dtype=torch.bool, device=key.device)


def _check_mask(key: Tensor, p: Tensor) -> None:
    _operands.check("thinned::keep_mask", key.new_empty((), dtype=torch.float32), key, p)


_library.impl("keep_mask", _keep_mask, "CPU")
torch.library.register_fake("thinned::keep_mask", _keep_mask_fake, lib=_library)
self_adjoint(_library, "dropout", _dropout, _dropout_vmap)
