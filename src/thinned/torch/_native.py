"""One pass of the kernel over a CPU tensor, by address; and the threads it runs on."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch
from torch import Tensor

from thinned import _kernel
from thinned.contract import Key

_DTYPES = {
    torch.float32: _kernel.FLOAT32,
    torch.float64: _kernel.FLOAT64,
    torch.float16: _kernel.FLOAT16,
    torch.bfloat16: _kernel.BFLOAT16,
}


def check_dtype(input: Tensor) -> None:
    """Refuse what dropout is not defined for."""
    if input.dtype not in _DTYPES:
        raise TypeError(f"input must be float32, float64, float16 or bfloat16, got {input.dtype}")


def run(
    input: Tensor,
    out: Tensor,
    key: Key,
    drop: int,
    factor: float,
    base: int,
    strides: tuple[int, ...] | None,
) -> Tensor:
    """Write the dropped input to `out`; `strides` of None are those of a whole, unshared mask."""
    _borrow_team()
    threads = torch.get_num_threads()
    if strides is None and input.is_contiguous() and out.is_contiguous():
        _kernel.dense(
            _DTYPES[input.dtype],
            input.data_ptr(),
            out.data_ptr(),
            input.numel(),
            base,
            key.seed,
            key.stream,
            drop,
            factor,
            threads,
        )
        return out
    shape = tuple(input.shape)
    _kernel.strided(
        _DTYPES[input.dtype],
        input.data_ptr(),
        out.data_ptr(),
        shape,
        input.stride(),
        out.stride(),
        row_major(shape) if strides is None else strides,
        base,
        key.seed,
        key.stream,
        drop,
        factor,
        threads,
    )
    return out


def mask(out: Tensor, key: Key, drop: int, base: int, strides: tuple[int, ...]) -> Tensor:
    """Write a mask to `out`, a contiguous bool tensor."""
    _borrow_team()
    _kernel.strided(
        _kernel.MASK,
        out.data_ptr(),
        out.data_ptr(),
        tuple(out.shape),
        out.stride(),
        out.stride(),
        strides,
        base,
        key.seed,
        key.stream,
        drop,
        1.0,
        torch.get_num_threads(),
    )
    return out


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense C-order array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@functools.cache
def _borrow_team() -> None:
    """Run on torch's own OpenMP threads where that is libgomp (Linux).

    Two pools on the same cores fight: after each of torch's own operators its idle thread spins for a while,
    just where a thread of ours should run.
    """
    if not sys.platform.startswith("linux") or _kernel.path() == _kernel.REFERENCE:
        return
    from thinned import _native

    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        launch = getattr(ctypes.CDLL(str(library)), "GOMP_parallel", None)
        if launch is not None:
            _native.borrow_team(ctypes.cast(launch, ctypes.c_void_p).value or 0)
            return
