"""The kernel passes over a CPU tensor here, by address, on a number of threads."""

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

DTYPES = {
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
    if input.dtype not in DTYPES:
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
    dtype, source, to = DTYPES[input.dtype], input.data_ptr(), out.data_ptr()
    if not _aligned(input, source | to):
        with torch.no_grad():  # who calls has told autograd
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
    input: Tensor,
    keys: Tensor,
    drop: int,
    factor: float,
    base: int,
    strides: tuple[int, ...],
    each: Tensor | None = None,
) -> Tensor:
    """A new tensor: rows of the input, each by the mask of its key.

    Args:
        input: what is dropped; where rows lie is said by its first dimensions, those of the keys.
        keys: (…, 2).
        drop: threshold of all rows, like the next two.
        factor: what kept elements are multiplied by.
        base: position of a row's first element.
        strides: in positions, of a row's dimensions.
        each: (…, 3), of each row its base, threshold and the bits of its factor in place of these.
    """
    _borrow_team()
    lead = keys.dim() - 1
    shape = tuple(input.shape[lead:])
    if lead not in (1, 2) or (input.stride()[lead:] != row_major(shape) and math.prod(shape) > 1):
        input = input.contiguous()
    if not _aligned(input, input.data_ptr()):
        input = input.clone(memory_format=torch.contiguous_format)
    outer, inner = (math.prod(input.shape[: max(lead - 1, 0)]), input.shape[lead - 1]) if lead else (1, 1)
    x_outer, x_inner = _steps(input, lead)
    out = torch.empty(input.shape, dtype=input.dtype, device="cpu")
    words = keys.cpu().contiguous()
    dtype, source, to = DTYPES[input.dtype], input.data_ptr(), out.data_ptr()
    rows = (outer, inner, x_outer, x_inner, shape, strides, base, words.data_ptr())
    table = 0 if each is None else each.data_ptr()
    _kernel.many(dtype, source, to, *rows, drop, factor, table, torch.get_num_threads())
    return out


def _steps(input: Tensor, lead: int) -> tuple[int, int]:
    """Returns the steps from one row to the next: of all leading dimensions but the last, and of that."""
    steps = input.stride()[:lead]
    if lead == 2:
        return steps[0], steps[1]
    row = math.prod(input.shape[lead:])
    return (row * input.shape[lead - 1], row) if lead > 2 else (0, steps[0] if lead else 0)


def add(input: Tensor, residual: Tensor, what: Pass) -> Tensor:
    """Residual + dropped input, for contiguous tensors of one shape and a whole mask."""
    if not _aligned(input, input.data_ptr() | residual.data_ptr()):
        return residual + run(input, fresh(input), what)
    _borrow_team()
    seed, stream, drop, factor, base, _ = what
    out = fresh(input)
    _kernel.add(
        *(DTYPES[input.dtype], input.data_ptr(), residual.data_ptr(), out.data_ptr(), input.numel(), base),
        *(seed, stream, drop, factor, torch.get_num_threads()),
    )
    return out


def _aligned(input: Tensor, addresses: int) -> bool:
    """Tells whether elements lie where the machine reads whole ones; not so in every buffer from a file."""
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
    its threads, so a call would never return (torch's own do not): it runs on a pool of ours.
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
    """Tells whether this process is a fork that has not become another program since, as Linux says."""
    try:
        flags = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6]
    except OSError:
        return True  # it is not known
    return bool(int(flags) & _FORKED)
