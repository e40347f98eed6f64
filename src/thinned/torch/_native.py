"""One pass of the kernel over a CPU tensor, by address; and the threads it runs on."""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from thinned import _kernel
from thinned._position import row_major
from thinned.contract import Key

_DTYPES = {
    torch.float32: _kernel.FLOAT32,
    torch.float64: _kernel.FLOAT64,
    torch.float16: _kernel.FLOAT16,
    torch.bfloat16: _kernel.BFLOAT16,
}


def check_dtype(input: Tensor, training: bool = True) -> None:
    """Refuse what dropout is not defined for; evaluation takes any layout."""
    if not isinstance(input, Tensor):
        raise TypeError(f"input must be a torch.Tensor, got {type(input).__name__}")
    if training and input.is_nested:
        raise TypeError("input must not be nested: only dropout is defined for it; pass input.values()")
    if training and input.layout != torch.strided:
        raise TypeError(f"input must be strided, got {input.layout}: pass input.to_dense()")
    if input.is_quantized:
        if not training:
            return
        raise TypeError(f"input must not be quantised, got {input.dtype}: pass input.dequantize()")
    if input.dtype not in _DTYPES:
        raise TypeError(f"input must be float32, float64, float16 or bfloat16, got {input.dtype}")


_MAPPED = 32 << 20  # bytes
_FORKED = 0x40  # PF_FORKNOEXEC, of a process's flags in /proc

# What one pass needs beside its tensors: seed, stream, drop threshold, factor, position of the first element,
# and strides in positions (None: those of a whole, unshared mask).
Pass = tuple[int, int, int, float, int, tuple[int, ...] | None]


def run(input: Tensor, out: Tensor, what: Pass) -> Tensor:
    """Write the dropped input to `out`, which may be the input."""
    _borrow_team()
    seed, stream, drop, factor, base, strides = what
    rest = (base, seed, stream, drop, factor, torch.get_num_threads())
    dtype, source, to = _DTYPES[input.dtype], input.data_ptr(), out.data_ptr()
    if not _aligned(input, source | to):
        inside = input.clone(memory_format=torch.contiguous_format)
        return out.copy_(run(inside, inside, what))
    if strides is None:
        if input.is_contiguous():  # and so is out: it is the input or was made like it
            _kernel.dense(dtype, source, to, input.numel(), *rest)
            return out
        strides = row_major(tuple(input.shape))
    _kernel.strided(dtype, source, to, tuple(input.shape), input.stride(), out.stride(), strides, *rest)
    return out


def many(
    input: Tensor, key: Tensor, drop: int, factor: float, base: int, strides: tuple[int, ...]
) -> Tensor | None:
    """A new tensor: rows of the input, each by the mask of its key; None where they are not contiguous.

    The input's first dimensions, one or two, are those of the keys, of which all must have the memory of one
    row or be expanded.
    """
    lead = key.dim() - 1
    shape, steps = tuple(input.shape[lead:]), tuple(input.stride()[lead:])
    if lead not in (1, 2) or (steps != row_major(shape) and math.prod(shape) > 1):
        return None
    if not _aligned(input, input.data_ptr()):
        return None
    _borrow_team()
    out = torch.empty(input.shape, dtype=input.dtype, device="cpu")
    words = key.cpu().contiguous()
    outer, inner = key.shape[:-1] if lead == 2 else (1, key.shape[0])
    x_outer, x_inner = input.stride()[:lead] if lead == 2 else (0, input.stride()[0])
    dtype, source, to = _DTYPES[input.dtype], input.data_ptr(), out.data_ptr()
    rows = (outer, inner, x_outer, x_inner, shape, strides, base, words.data_ptr())
    _kernel.many(dtype, source, to, *rows, drop, factor, torch.get_num_threads())
    return out


def add(input: Tensor, residual: Tensor, what: Pass) -> Tensor:
    """Residual + dropped input, for contiguous tensors of one shape and a whole mask."""
    if not _aligned(input, input.data_ptr() | residual.data_ptr()):
        return residual + run(input, fresh(input), what)
    _borrow_team()
    seed, stream, drop, factor, base, _ = what
    out = fresh(input)
    _kernel.add(
        *(_DTYPES[input.dtype], input.data_ptr(), residual.data_ptr(), out.data_ptr(), input.numel(), base),
        *(seed, stream, drop, factor, torch.get_num_threads()),
    )
    return out


def _aligned(input: Tensor, addresses: int) -> bool:
    """Whether elements lie where the machine reads whole ones; not so in every buffer from a file."""
    return not addresses & (input.element_size() - 1)


def fresh(input: Tensor) -> Tensor:
    """An empty tensor like the input, for `run` to write.

    From 32 MiB on, the C library maps each one anew and touching its pages is most of a pass: 64 MiB take
    30 ms in small pages and 10 ms in large ones (`clone`: 28 ms).
    """
    out = torch.empty_like(input)
    if out.nbytes >= _MAPPED:
        _kernel.prefer_large_pages(out.data_ptr(), out.nbytes)
    return out


def mask(out: Tensor, key: Key, drop: int, base: int, strides: tuple[int, ...] | None) -> Tensor:
    """Write a mask to `out`, a bool tensor."""
    _borrow_team()
    rest = (base, key.seed, key.stream, drop, 1.0, torch.get_num_threads())
    shape, steps, to = tuple(out.shape), out.stride(), out.data_ptr()
    _kernel.strided(_kernel.MASK, to, to, shape, steps, steps, steps if strides is None else strides, *rest)
    return out


def normal(shape: tuple[int, ...], key: tuple[int, int], base: int, strides: tuple[int, ...]) -> Tensor:
    """Normal deviates in float32, of size 1 where a dimension shares them."""
    _borrow_team()
    sizes = tuple(min(size, 1) if not stride else size for size, stride in zip(shape, strides, strict=True))
    out = torch.empty(sizes, dtype=torch.float32, device="cpu")
    _kernel.normal(out.data_ptr(), sizes, strides, base, *key, torch.get_num_threads())
    return out


@functools.cache
def _borrow_team() -> None:
    """Run on torch's own OpenMP threads where that is libgomp (Linux).

    Two pools on the same cores fight: after each of torch's own operators its idle thread spins for a while,
    just where a thread of ours should run. A forked process has the memory of its parent's team and none of
    its threads, so a call would wait for ever (torch's own do): it runs on a pool of ours.
    """
    if not sys.platform.startswith("linux") or _kernel.path() == _kernel.REFERENCE or _forked():
        return
    from thinned import _native

    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        launch = getattr(ctypes.CDLL(str(library)), "GOMP_parallel", None)
        if launch is not None:
            _native.borrow_team(ctypes.cast(launch, ctypes.c_void_p).value or 0)
            return


def _forked() -> bool:
    """Whether this process is a fork that has not become another program since, as Linux says."""
    try:
        flags = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6]
    except OSError:
        return True  # nobody knows
    return bool(int(flags) & _FORKED)
