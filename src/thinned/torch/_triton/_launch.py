"""Calls of the dropout kernels."""

from __future__ import annotations

import math
import struct
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from thinned._arguments import alpha_numbers, effect, signed
from thinned._position import row_major
from thinned.contract import threshold
from thinned.torch import _capture, _rate
from thinned.torch._key_tensor import words_of
from thinned.torch._triton import _bits, _dropout, _numbers, _tile, _turned
from thinned.torch._triton._layout import layout

# Of input that a thread has on its way while the generator runs: four loads.
_BYTES_A_THREAD = 64
_WARPS = 4
# A shorter row would leave most of a warp without work.
_SHORTEST_ROW = 64
_SPAN = 1024
# Of memory that runs across the mask: a word of 32 positions for each thread, 64 of them by 64 neighbours in
# memory. In a dimension of fewer than 32 a tile would be mostly empty.
_TILE_CALLS, _TILE_WORDS, _COLUMNS = 4, 2, 64
_LEAST_TILE = 32
# A product and a sum are two roundings: none may be left to the assembler.
_EXACT = {"enable_fp_fusion": False}

_WHAT = {
    "drop": _bits.DROP.value,
    "noise": _bits.NOISE.value,
    "alpha": _bits.ALPHA.value,
    "slope": _bits.SLOPE.value,
}
_KINDS = {
    "word": _numbers.WORD.value,
    "uniform": _numbers.UNIFORM.value,
    "middle": _numbers.MIDDLE.value,
    "normal": _numbers.NORMAL.value,
}

Strides = tuple[int, ...] | None


def dropout(
    input: Tensor,
    out: Tensor,
    key: Tensor,
    p: Tensor,
    inverted: bool,
    base: int,
    strides: Strides,
    kind: str = "drop",
) -> Tensor:
    """Write the dropped input to `out`, which may be the input. p is one number or broadcasts to it.

    Kind "noise" multiplies each element by a normal deviate about 1 (Gaussian dropout), "alpha" moves it by
    alpha dropout, and "slope" is the derivative of that.
    """
    many = key.dim() - 1
    shape = tuple(input.shape)
    if not input.numel():
        return out
    if many or key.stride(-1) != 1:
        key = (on_device("key", key, input) if many else key).contiguous()
    positions = (0,) * many + (row_major(shape[many:]) if strides is None else strides)
    keys = (*key.stride()[:many], *(0,) * (input.dim() - many))
    rates = (0,) * input.dim()
    if p.numel() > 1:
        p = _on_device(p, input)
        rates = p.expand(shape).stride()
    found = layout(
        zip(shape, input.stride(), out.stride(), positions, keys, rates, strict=True), _SHORTEST_ROW
    )
    what, flags = arguments(input, key, p, inverted, kind)
    flags["KIND"] = _WHAT[kind]
    what = (*what, base, *_shifts(p, kind, flags["P_HERE"]))
    with torch.cuda.device_of(input):
        across = None if kind == "noise" else found.turned(_LEAST_TILE)
        if found.width:
            _rows(input, input, out, what, base, found, flags | {"ADD": False})
        elif across:
            _across(input, out, what, base, across, flags)
        else:
            _dropout.strided[(triton.cdiv(input.numel(), _SPAN),)](
                *(input, out, *what, *found.columns(), input.numel()),
                SPAN=_SPAN,
                P_MANY=any(rates),
                **flags,
                **_EXACT,
            )
    return out


def add(input: Tensor, residual: Tensor, key: Tensor, p: Tensor, base: int) -> Tensor:
    """Residual + dropped input, for contiguous tensors of one shape, of consecutive positions."""
    out = torch.empty_like(input, dtype=torch.promote_types(input.dtype, residual.dtype))
    if input.numel():
        what, flags = arguments(input, key, p, True)
        with torch.cuda.device_of(input):
            found = layout([(input.numel(), 1, 1, 1, 0, 0)], _SHORTEST_ROW)
            flags |= {"ADD": True, "KIND": _WHAT["drop"]}
            _rows(input, residual, out, (*what, base, 0, 0), base, found, flags)
    return out


def numbers(out: Tensor, key: Tensor, base: int, strides: tuple[int, ...], kind: str) -> Tensor:
    """Write numbers of a kind to a contiguous tensor, whose first dimensions are the key's."""
    many = key.dim() - 1
    if not out.numel():
        return out
    here = bool(many) or _on(out, key)
    key = (on_device("key", key, out) if many else key).contiguous()
    positions, keys = (0,) * many + strides, (*key.stride()[:many], *(0,) * len(strides))
    still = (0,) * out.dim()
    found = layout(zip(out.shape, still, out.stride(), positions, keys, still, strict=True), 1)
    sizes, _, _, steps, key_steps, _ = found.columns()
    ((size, _, _, step, key_step, _),) = found.dimensions[-1:]
    dense = len(found.dimensions) == 1 and (size == 1 or step == 1) and not key_step and not base % 8
    seed, stream = (0, 0) if here else (signed(word) for word in words_of(key))
    with torch.cuda.device_of(out):
        _numbers.numbers[(triton.cdiv(out.numel(), _SPAN),)](
            *(out, key if here else out, seed, stream, base, sizes, steps, key_steps, out.numel()),
            KIND=_KINDS[kind],
            CALLS=_SPAN // 8,
            DENSE=dense,
            KEY_HERE=here,
            **_EXACT,
        )
    return out


def fold(key: Tensor, data: Tensor) -> Tensor:
    """`Key.fold` of keys (…, 2) with integers (…)."""
    out = torch.empty(key.shape, dtype=torch.int64, device=key.device)
    if data.numel():
        with torch.cuda.device_of(key):
            _dropout.fold[(triton.cdiv(data.numel(), _SPAN),)](
                *(key.contiguous(), data.to(torch.int64).contiguous(), out, data.numel()), SPAN=_SPAN
            )
    return out


def arguments(
    input: Tensor, key: Tensor, p: Tensor, inverted: bool, kind: str = "drop"
) -> tuple[tuple[Any, ...], dict[str, bool]]:
    """Key and p as kernels take them: tensors, numbers, and which of the two are to be used.

    What is on the CPU is read here, so that no copy has to wait; what is on the device is read there, so that
    a graph that is replayed reads it anew.
    """
    flags = {
        "KEY_HERE": key.dim() > 1 or _on(input, key),
        "P_HERE": p.numel() > 1 or _on(input, p),
        "INVERTED": inverted,
    }
    seed, stream, drop, bits = 0, 0, 0, 0
    if not flags["KEY_HERE"]:
        seed, stream = (signed(word) for word in words_of(key))
    if not flags["P_HERE"]:
        if kind == "noise":
            factor = math.sqrt(p.item() / (1.0 - p.item()))
        else:
            drop, factor = effect(threshold(p.item()), True, inverted)
        if kind in ("alpha", "slope"):
            factor, _, _ = alpha_numbers(drop / 2.0**32)
        bits = bits_of(factor)
    key, p = (t if flags[flag] else input for t, flag in ((key, "KEY_HERE"), (p, "P_HERE")))
    return (key, p, seed, stream, drop, bits), flags


def on_device(name: str, small: Tensor, input: Tensor) -> Tensor:
    """A tensor that a kernel is to read, where it can."""
    if small.device != input.device:
        _capture.check(input, name, small, f"pass {name} on the input's device")
    return small.to(input.device)


def bits_of(number: float) -> int:
    """Of a double, as kernels take it."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def _shifts(p: Tensor, kind: str, here: bool) -> tuple[int, int]:
    """What alpha dropout adds, and what is dropped becomes; unless the kernel finds it."""
    if kind != "alpha" or here:
        return 0, 0
    _, shift, low = alpha_numbers(threshold(p.item()) / 2.0**32)
    return bits_of(shift), bits_of(low)


def _on_device(p: Tensor, input: Tensor) -> Tensor:
    if p.is_cpu:  # on a device nobody can look at it without waiting
        _rate.check_range(p)
    return on_device("p", p, input)


def _on(input: Tensor, small: Tensor) -> bool:
    return small.device == input.device and not small.is_cpu


def _across(input: Tensor, out: Tensor, what: tuple[Any, ...], base: int, across: Any, flags: Any) -> None:
    rest, down, along = across
    aligned = not base % 8 and not along[3] % 8 and not any(d[3] % 8 for d in rest.dimensions)
    tiles = triton.cdiv(along[0], _COLUMNS) * triton.cdiv(down[0], 8 * _TILE_CALLS * _TILE_WORDS)
    _turned.turned[(tiles * math.prod(d[0] for d in rest.dimensions),)](
        *(input, out, *what, *rest.columns(), down[0], along[0]),
        *(down[1], along[1], down[2], along[2], along[3]),
        HOW=(_tile.ALIGNED if aligned else _tile.CONSECUTIVE).value,
        CALLS=_TILE_CALLS,
        WORDS=_TILE_WORDS,
        COLUMNS=_COLUMNS,
        **flags,
        num_warps=_WARPS,
        **_EXACT,
    )


def _rows(
    input: Tensor, residual: Tensor, out: Tensor, what: tuple[Any, ...], base: int, found: Any, flags: Any
) -> None:
    aligned = found.shared or (not base % 8 and not any(d[3] % 8 for d in found.dimensions))
    calls = triton.cdiv(found.width + (0 if aligned else 7), 8)
    here = _BYTES_A_THREAD
    if flags["KIND"] == _WHAT["noise"]:  # in double: two calls of the generator take half of all registers
        here = min(here, 16 * input.element_size())
    a_warp = 32 * here // (8 * input.element_size())
    size = min(_WARPS * a_warp, triton.next_power_of_2(calls))
    chunks = triton.cdiv(calls, size)
    _dropout.rows[(chunks * input.numel() // found.width,)](
        *(input, residual, out, *what, *found.columns(), found.width, chunks),
        CALLS=size,
        ALIGNED=aligned,
        SHARED=found.shared,
        ONE=input.numel() == found.width,
        **flags,
        num_warps=max(1, size // a_warp),
        **_EXACT,
    )
