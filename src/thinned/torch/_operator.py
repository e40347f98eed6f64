"""The operators `thinned::dropout` and `thinned::keep_mask` are registered here.

They are what torch.compile, torch.func, fake tensors, tensor subclasses and every device see. Key and p are
tensors, so that a graph depends on neither value. Nothing of the input is saved: the backward pass recomputes
the mask from the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._arguments import effect
from thinned._position import positions, row_major
from thinned.contract import Key, threshold
from thinned.torch import _cuda, _inductor, _mesh, _native, _operands, _plain, _rate
from thinned.torch._autograd import self_adjoint
from thinned.torch._batching import Sizes, batched, noise_of, words_for
from thinned.torch._key_tensor import words_of

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
    if _cuda.serves(input):
        from thinned.torch._triton import _launch

        return _launch.dropout(input, torch.empty_like(input), key, p, inverted, base, strides)
    steps = strides or row_major(shape)
    if not input.is_cpu:
        words, drops, factors = tensors(input, key, p, inverted)
        return _plain.dropout(input, words, drops, factors, base, steps)
    if not many and p.numel() == 1:
        drop, factor = effect(threshold(p.item()), True, inverted)
        return _native.run(input, _native.fresh(input), (*words_of(key), drop, factor, base, strides))
    result = _by_rows(input, key, p, inverted, base, (0,) * many + steps)
    out = torch.empty_like(input)  # as the shape function says
    return result if out.stride() == result.stride() else out.copy_(result)


def _by_rows(
    input: Tensor, key: Tensor, p: Tensor, inverted: bool, base: int, steps: tuple[int, ...]
) -> Tensor:
    """A row is what has one key and one p: the dimensions after the last of which either has several."""
    sizes = p.shape if p.dim() else (1,) * input.dim()
    lead = max(key.dim() - 1, *(axis + 1 for axis, size in enumerate(sizes) if size > 1), 0)
    front = input.shape[:lead]
    keys = key.reshape(*key.shape[:-1], *(1,) * (lead + 1 - key.dim()), 2).expand(*front, 2)
    if p.numel() == 1:
        return _native.many(input, keys, *effect(threshold(p.item()), True, inverted), base, steps[lead:])
    drop, factor = rates(p, inverted)
    each = torch.empty((*front, 3), dtype=torch.int64, device="cpu")
    begins = torch.full((1,) * lead, base, dtype=torch.int64, device="cpu")
    for axis, (size, step) in enumerate(zip(front, steps[:lead], strict=True)):
        along = torch.arange(size, device="cpu") * step
        begins = begins + along.reshape((-1,) + (1,) * (lead - axis - 1))
    for column, values in enumerate((begins, drop.cpu(), factor.cpu().view(torch.int64))):
        each[..., column] = values if not column else values.reshape(sizes[:lead])
    return _native.many(input, keys, 0, 1.0, base, steps[lead:], each)


def tensors(
    input: Tensor, key: Tensor, p: Tensor, inverted: bool, check: bool = True
) -> tuple[Any, Tensor, Tensor]:
    """Key words, drop threshold and factor, of shapes that broadcast to the input's."""
    drop, factor = rates(p, inverted, check)
    wide = torch.promote_types(input.dtype, torch.float32)
    return words_for(input, key), drop.to(input.device), factor.to(wide).to(input.device)


def rates(p: Tensor, inverted: bool = True, check: bool = True) -> tuple[Tensor, Tensor]:
    """Drop threshold, as an integer, and factor, in double; p unchecked where code is made for any p."""
    if check and p.is_cpu:
        _rate.check_range(p)
    p = _plain.double(p)
    # To read p on a device is to wait for it: there, what is no probability gives NaN.
    valid = (p >= 0) & (p <= 1)
    drop = torch.where(valid, torch.round(p * 2.0**32), 0.0).long()
    factor = torch.where(drop < 2**32, 2.0**32 / (2.0**32 - drop.double()), 0.0)
    return drop, torch.where(valid, factor if inverted else torch.ones_like(factor), torch.nan)


def _dropout_vmap(
    info: Any, in_dims: Any, input: Tensor, key: Tensor, p: Tensor, inverted: bool = True, *shapes: Sizes
) -> tuple[Tensor, int]:
    input, key, p, *place = batched(info.batch_size, in_dims, input, key, p, *shapes)
    return dropout(input, key, p, inverted, *place), 0


def _keep_mask(
    shape: Sequence[int], key: Tensor, p: Tensor, global_shape: Sizes = None, start: Sizes = None
) -> Tensor:
    _check_mask(key, p)
    base, strides = positions(tuple(shape), None, global_shape, start)
    out = torch.empty(tuple(shape), dtype=torch.bool, device="cpu")
    return _native.mask(out, Key(*words_of(key)), threshold(p.item()), base, strides)


def _keep_mask_fake(shape: Sequence[int], key: Tensor, p: Tensor, *_: Sizes) -> Tensor:
    _inductor.tell()
    _check_mask(key, p)
    return torch.empty(shape, dtype=torch.bool, device=key.device)


def _check_mask(key: Tensor, p: Tensor) -> None:
    _operands.check("thinned::keep_mask", key.new_empty((), dtype=torch.float32), key, p)


_library.impl("keep_mask", _keep_mask, "CPU")
torch.library.register_fake("thinned::keep_mask", _keep_mask_fake, lib=_library)
self_adjoint(_library, "dropout", _dropout, _dropout_vmap)
