"""Calls of DropBlock's kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from thinned.torch._triton import _block, _tile
from thinned.torch._triton._launch import arguments, on_device
from thinned.torch._triton._layout import layout

_WORDS = 128  # of a program, one for each thread
_BYTES_A_THREAD = 32
_THREADS = 128
_EXACT = {"enable_fp_fusion": False}


def drop_block(
    input: Tensor,
    key: Tensor,
    gamma: Tensor,
    block: Sequence[int],
    base: int,
    sample: int,
    scaled: bool,
    coupled: bool,
) -> Tensor:
    """The input without its blocks, what is kept of a sample multiplied if `scaled`.

    Args:
        input: (N, C, …) of one to three dimensions more.
        key: of the seeds' mask.
        gamma: the seeds' rate, one number or one for samples and channels.
        block: its sides, none longer than the map's.
        base: position of the first seed.
        sample: positions from a sample to the next.
        scaled: multiply what is kept by a sample's size over the number kept.
        coupled: all channels have one mask.
    """
    out = torch.empty_like(input)
    sizes = (*(1,) * (5 - input.dim()), *input.shape[2:])
    sides = (*(1,) * (5 - input.dim()), *block)
    channels = 1 if coupled else input.shape[1]
    with torch.cuda.device_of(input):
        words, parts = _blocks(input, key, gamma, sizes, sides, base, sample, channels)
        factors = parts
        if scaled:
            factors = torch.empty(len(parts), dtype=torch.float64, device=input.device)
            _block.scales[(len(parts),)](
                *(parts, factors, channels * math.prod(sizes), parts.shape[1]), SPAN=1024, **_EXACT
            )
        _apply(input, out, words, factors, scaled)
    return out


def _blocks(
    input: Tensor,
    key: Tensor,
    gamma: Tensor,
    sizes: tuple[int, ...],
    sides: tuple[int, ...],
    base: int,
    sample: int,
    channels: int,
) -> tuple[Tensor, Tensor]:
    """Words of what is dropped, (N, channels, D, H, words of a row); and of a sample's parts the number."""
    depth, height, width = (size - side + 1 for size, side in zip(sizes, sides, strict=True))
    samples = input.shape[0]
    shape = (samples, channels, depth, height, triton.cdiv(width, 32))
    found = torch.empty(shape, dtype=torch.int32, device=input.device)
    what, flags = arguments(
        input, key.contiguous(), on_device("p", gamma, input) if gamma.dim() else gamma, False
    )
    many = gamma.dim() > 0
    steps = [0 if gamma.shape[axis] == 1 else gamma.stride(axis) for axis in (0, 1)] if many else [0, 0]
    aligned = not any(number % 8 for number in (base, sample, width))
    _block.seeds[(triton.cdiv(found.numel(), _WORDS),)](
        *(found, *what, base, sample, channels, depth * height, width, *steps, found.numel()),
        SPAN=_WORDS,
        HOW=(_tile.ALIGNED if aligned else _tile.CONSECUTIVE).value,
        P_MANY=many,
        **flags,
    )
    across = sides[2]
    while True:  # a word and the one before it hold blocks of 33; wider ones take several turns
        side = min(across, _block.MOST + 1)
        width, across = width + side - 1, across - side + 1
        shape = (samples, channels, *sizes[:2], triton.cdiv(width, 32))
        grown = torch.empty(shape, dtype=torch.int32, device=input.device)
        chunks = triton.cdiv(grown[0].numel(), _WORDS)
        parts = torch.empty((samples, chunks), dtype=torch.int32, device=input.device)
        _block.grow[(samples * chunks,)](
            *(found, grown, parts, channels, *sizes[:2], width, *found.shape[2:], *sides[:2], side, chunks),
            SPAN=_WORDS,
            ONE=grown.shape[-1] == 1,
        )
        found, sides = grown, (1, 1, across)
        if across == 1:
            return found, parts


def _apply(input: Tensor, out: Tensor, words: Tensor, factors: Tensor, scaled: bool) -> None:
    channel, *rows = (32 * step for step in words.stride()[1:-1])
    places = (0 if words.shape[1] == 1 else channel, *(*rows, 1)[5 - input.dim() :])
    one = zip(input.shape[1:], input.stride()[1:], out.stride()[1:], places, strict=True)
    found = layout([(*each, 0, 0) for each in one], 1)
    row = (found.width, 1, 1, int(not found.shared), 0, 0)
    dimensions = (*found.dimensions, row) if found.width else found.dimensions
    sizes, x_steps, out_steps, bits, *_ = zip(*reversed(dimensions), strict=True)
    elements = math.prod(sizes)
    dense = all(_follow(sizes, steps) for steps in (x_steps, out_steps))
    spans = [sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) for steps in (x_steps, bits)]
    span = _THREADS * _BYTES_A_THREAD // input.element_size()
    chunks = triton.cdiv(elements, span)
    _block.blocks[(len(input) * chunks,)](
        *(input, out, words, factors, sizes, *zip(*map(_inverse, sizes), strict=True)),
        *(x_steps, out_steps, bits),
        *(input.stride(0), out.stride(0), words.stride(0), elements, chunks),
        SPAN=span,
        DENSE=dense,
        SMALL=max(*spans, elements + span) < 2**31,
        SCALED=scaled,
        num_warps=_THREADS // 32,
        **_EXACT,
    )


def _inverse(size: int) -> tuple[int, int]:
    """A factor m of 32 bits, and h: n // size is the high word of n · m, shifted by h, for n < 2^31.

    With m = ⌈2^(32 + h) / size⌉ and size ≤ 2^(h + 1), n · m / 2^(32 + h) is above n / size by less than
    1 / size.
    """
    halvings = max((size - 1).bit_length() - 1, 0)
    return min(-(-(2 ** (32 + halvings)) // size), 2**32 - 1), halvings


def _follow(sizes: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether elements lie one after another, innermost dimension first."""
    expected = 1
    for size, step in zip(sizes, steps, strict=True):
        if size > 1 and step != expected:
            return False
        expected *= size
    return True
