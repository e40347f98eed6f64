"""The operator `thinned::drop_block` grows contiguous blocks of a map from dropped seeds.

It is linear in its input and its own adjoint: the backward pass grows the same blocks from the same key, and
nothing of the input's size is kept for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned._boxes import clamp, seed_rate
from thinned._position import positions, row_major
from thinned.contract import threshold
from thinned.torch import _capture, _cuda, _mesh, _plain
from thinned.torch._autograd import self_adjoint
from thinned.torch._batching import Sizes

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define(
    "drop_block(Tensor input, Tensor key, Tensor p, int[] block_size, SymInt start=0, SymInt step=1, "
    "bool scaled=True, bool coupled=False, int[]? coordinate=None) -> Tensor"
)


def drop_block(input: Tensor, key: Tensor, p: Tensor, block_size: Sequence[int], *rest: Any) -> Tensor:
    """Call `thinned::drop_block`.

    The samples are every `step`-th of a batch from `start` on. What is kept is multiplied if `scaled`;
    channels have one mask if `coupled`.
    """
    result: Tensor = torch.ops.thinned.drop_block(input, key, p, block_size, *rest, **_mesh.prepare(input))
    return result


def _drop_block(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    block_size: Sequence[int],
    start: int = 0,
    step: int = 1,
    scaled: bool = True,
    coupled: bool = False,
    coordinate: Sizes = None,
) -> Tensor:
    if not input.numel():
        return torch.empty_like(input)
    channels = 1 if coupled else input.shape[1]
    if _cuda.serves(input):
        return _by_kernels(input, key, p, block_size, start, step, scaled, channels)
    dropped = _blocks(input, key, p, block_size, start, step, channels)
    if not scaled:
        return input.clone().masked_fill_(dropped, 0)
    each = dropped[0].numel()
    lost = dropped.flatten(1).sum(1, dtype=torch.int32 if each < 2**31 else torch.int64)
    rest = each - _plain.double(lost)
    # Where all of a sample is dropped there is nothing to multiply.
    factor = torch.where(rest > 0, torch.full_like(rest, each) / rest, 0.0)  # torch divides a number by 1/x
    wide = torch.promote_types(input.dtype, torch.float32)
    value = input * factor.to(wide).to(input.device).reshape(-1, *(1,) * (input.dim() - 1))
    return value.masked_fill_(dropped, 0).to(input.dtype)


def _blocks(
    input: Tensor, key: Tensor, p: Tensor, block_size: Sequence[int], start: int, step: int, channels: int
) -> Tensor:
    """True where dropped, for so many channels."""
    gamma, block, firsts = _seeds(input, p, block_size)
    ones = torch.ones((input.shape[0], channels, *firsts), dtype=torch.float16, device=input.device)
    place = _where(ones.shape, start, step)
    dropped: Tensor = torch.ops.thinned.dropout(ones, key, gamma, False, None, *place) == 0
    for axis, one in enumerate(block, 2):
        dropped = _grow(dropped, axis, one)
    return dropped


def _seeds(input: Tensor, p: Tensor, block_size: Sequence[int]) -> tuple[Tensor, tuple[int, ...], list[int]]:
    """Rate of the seeds for each p, on the CPU; a block's sides, and how many places have room for it."""
    _capture.check(p, "p", p, "DropBlock solves for its seeds' rate on the CPU; pass a number, or p.cpu()")
    sizes = tuple(input.shape[2:])
    block = clamp(block_size, sizes)
    firsts = [size - one + 1 for size, one in zip(sizes, block, strict=True)]
    rates = [
        seed_rate(threshold(rate) / 2.0**32, sizes, block) for rate in _plain.double(p).reshape(-1).tolist()
    ]
    return torch.tensor(rates, dtype=torch.float64, device="cpu").reshape(p.shape), block, firsts


def _where(shape: Sequence[int], start: int, step: int) -> tuple[tuple[int, ...], list[int], list[int]]:
    """The seeds' place among those of all samples."""
    rest = [0] * (len(shape) - 1)
    whole = ((shape[0] - 1) * step + start + 1, *shape[1:])
    return whole, [start, *rest], [step, *(1 for _ in rest)]


def _by_kernels(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    block_size: Sequence[int],
    start: int,
    step: int,
    scaled: bool,
    channels: int,
) -> Tensor:
    from thinned.torch._triton import _launch_block

    gamma, block, firsts = _seeds(input, p, block_size)
    shape = (input.shape[0], channels, *firsts)
    base, strides = positions(shape, None, *_where(shape, start, step))
    sample = (strides or row_major(shape))[0]
    return _launch_block.drop_block(
        input, key, gamma, block, base, sample, scaled, channels != input.shape[1]
    )


def _grow(dropped: Tensor, axis: int, block: int) -> Tensor:
    """Each seed drops itself and the block − 1 elements after it, by windows of twice the size in turn."""
    shape = list(dropped.shape)
    shape[axis] += 2 * (block - 1)
    grown = dropped.new_zeros(shape)
    grown.narrow(axis, block - 1, dropped.shape[axis]).copy_(dropped)
    window = 1
    while window < block:
        step = min(window, block - window)
        size = grown.shape[axis] - step
        grown = grown.narrow(axis, 0, size) | grown.narrow(axis, step, size)
        window += step
    return grown


def _drop_block_vmap(
    info: Any,
    in_dims: Any,
    input: Tensor,
    key: Tensor,
    p: Tensor,
    *rest: Any,
) -> tuple[Tensor, int]:
    inputs, keys, rates = (
        [tensor] * info.batch_size if at is None else tensor.unbind(at)
        for tensor, at in zip((input, key, p), in_dims[:3], strict=True)
    )
    each = [drop_block(*one, *rest[:5]) for one in zip(inputs, keys, rates, strict=True)]
    return torch.stack(each), 0


self_adjoint(_library, "drop_block", _drop_block, _drop_block_vmap)
