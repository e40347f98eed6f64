"""Calls of the norm kernels."""

from __future__ import annotations

import struct
from typing import Any

import torch
import triton  # type: ignore[import-untyped]
from torch import Tensor

from thinned.torch._triton import _norm, _norm_wide
from thinned.torch._triton._launch import arguments

# Elements of a row that a thread holds, in several tensors at once; and rows at a time, so that the sums of
# the weights' gradients have as many parts whatever the device.
_ELEMENTS_A_THREAD = 16
_MOST_WARPS = 16
_PARTS = 1024

# A wider row goes by in spans: at 16,384 the way back would spill 28 registers of a thread.
WIDEST, WIDEST_BACK = 16384, 8192
SPAN = 4096
COLUMNS = 1024


def forward(
    input: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    key: Tensor,
    p: Tensor,
    eps: float,
    rms: bool,
    width: int,
    base: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normed, sum, and of each row its mean (none for RMS) and the inverse of its scale."""
    total = torch.empty_like(input, dtype=torch.promote_types(input.dtype, residual.dtype))
    out = torch.empty_like(total)
    rows = input.numel() // width
    means, scales = (total.new_empty(n, dtype=_wide(total)) for n in (0 if rms else rows, rows))
    if rows:
        what, flags = arguments(input, key, p, True)
        (bits,) = struct.unpack("<q", struct.pack("<d", eps))
        tensors = (input, residual, _or(weight, input), _or(bias, input), total, out, means, scales)
        with torch.cuda.device_of(input):
            kernel = _norm.forward if width <= WIDEST else _norm_wide.forward
            kernel[(rows,)](
                *(*tensors, *what, base, bits, width),
                **_options(flags, what[4], width <= WIDEST, width, base, weight, bias, rms),
            )
    return out, total, means, scales


def backward(
    grad: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    means: Tensor,
    scales: Tensor,
    key: Tensor,
    p: Tensor,
    rms: bool,
    width: int,
    input_dtype: torch.dtype,
    residual_dtype: torch.dtype,
    base: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of input and residual, of these dtypes, and of weight and bias; empty where there is none."""
    grad_input = torch.empty_like(total, dtype=input_dtype)
    grad_residual = torch.empty_like(total, dtype=residual_dtype)
    rows = total.numel() // width
    each = triton.next_power_of_2(triton.cdiv(rows, _PARTS)) if rows else 1
    parts = triton.cdiv(rows, each)
    of_weight, of_bias = (
        total.new_empty((0 if t is None else parts, width), dtype=_wide(total)) for t in (weight, bias)
    )
    if rows:
        what, flags = arguments(total, key, p, True)
        tensors = (grad, grad_total, total, _or(weight, total), means, scales, grad_input, grad_residual)
        options = _options(flags, what[4], width <= WIDEST_BACK, width, base, weight, bias, rms)
        sums = (of_weight, of_bias)
        with torch.cuda.device_of(total):
            if width <= WIDEST_BACK:
                _norm.backward[(parts,)](*(*tensors, *sums, *what, base, rows, width), ROWS=each, **options)
            else:
                _norm_wide.backward[(rows,)](*(*tensors, *what, base, width), **options)
                _down_the_columns((grad, total, means, scales, *sums, rows, width), (parts, each), options)
    of_weight, of_bias = (
        total.new_empty(0) if t is None else parts.sum(0).to(t.dtype)
        for t, parts in ((weight, of_weight), (bias, of_bias))
    )
    return grad_input, grad_residual, of_weight, of_bias


def _down_the_columns(operands: tuple[Any, ...], parts: tuple[int, int], options: dict[str, Any]) -> None:
    """Sums for the gradients of weight and bias of wide rows, if there are such."""
    flags = {name: options[name] for name in ("WEIGHT", "BIAS", "RMS")}
    if flags["WEIGHT"] or flags["BIAS"]:
        across = triton.cdiv(operands[-1], COLUMNS)
        _norm_wide.weights[(parts[0] * across,)](
            *operands, across, ROWS=parts[1], SPAN=COLUMNS, **flags, enable_fp_fusion=False
        )


def _options(
    flags: dict[str, bool],
    drop: int,
    whole: bool,
    width: int,
    base: int,
    weight: Tensor | None,
    bias: Tensor | None,
    rms: bool,
) -> dict[str, Any]:
    calls = triton.next_power_of_2(triton.cdiv(width, 8)) if whole else SPAN // 8
    warps = 8 * calls // (32 * _ELEMENTS_A_THREAD)
    return {
        **flags,
        "CALLS": calls,
        "ALIGNED": width % 8 == 0 and base % 8 == 0,
        "DROPS": flags["P_HERE"] or drop != 0,
        "WEIGHT": weight is not None,
        "BIAS": bias is not None,
        "RMS": rms,
        "num_warps": min(max(warps, 1), _MOST_WARPS),
        "enable_fp_fusion": False,  # a product and a sum are two roundings
    }


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """What the kernel is told not to read."""
    return other if tensor is None else tensor


def _wide(total: Tensor) -> torch.dtype:
    return torch.float64 if total.dtype == torch.float64 else torch.float32
