"""Front ends call the kernel through this file: the native module, or the NumPy reference in its place.

Both offer, by address, `dense` and `strided`: one pass that reads x, decides and writes out; `add`: the same
with a residual added on the way; `many`: the same for rows with a key each; `normal`: normal deviates;
`dots`: inner products of one vector with many thinned copies of another, none of which is stored. `fold`
derives a stream from a stream, `fold_many` many; `kept` says which units a mask keeps, `largest` where a
fixed number of them is kept, and `address` where an array begins.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from thinned import _reference
from thinned.contract import check_integer

# There is none where no C++ compiler was found when the package was installed. One that is there and cannot
# be loaded is an error.
_native: ModuleType | None = import_module("thinned._native") if find_spec("thinned._native") else None

# Element types, as the kernel numbers them.
FLOAT32, FLOAT64, FLOAT16, BFLOAT16, MASK = range(5)

REFERENCE: Final = "reference"


def paths() -> list[str]:
    """The code paths of this build on this machine, fastest first; `reference` is always last."""
    return [*(_native.available() if _native is not None else []), REFERENCE]


def path() -> str:
    """The code path in use."""
    return str(_native.selected()) if _native is not None and dense is _native.dense else REFERENCE


def select(name: str) -> None:
    """Use this code path from now on (for tests and benchmarks; users set THINNED_ISA)."""
    global add, dense, dots, fold, fold_many, kept, largest, many, normal, strided
    if name not in paths():
        raise RuntimeError(
            f"THINNED_ISA={name}: this machine offers {', '.join(paths())}; unset it or choose one of these"
        )
    if _native is not None and name != REFERENCE:
        _native.select(name)
        dense, strided, add = _native.dense, _native.strided, _native.add
        normal, dots, many = _native.normal, _native.dots, _native.many
        fold, fold_many, kept, largest = _native.fold, _native.fold_many, _native.kept, _native.largest
    else:
        dense, strided, add = _reference.dense, _reference.strided, _reference.add
        normal, dots, many = _reference.normal, _reference.dots, _reference.many
        fold, fold_many = _reference.fold, _reference.fold_many
        kept, largest = _reference.kept, _reference.largest


# Parts of matrices, which hold no random numbers: None where the front ends are to index themselves.
take = None if _native is None else _native.take
take_many = None if _native is None else _native.take_many
put = None if _native is None else _native.put
multiplies: Any = (lambda: False) if _native is None else _native.multiplies
linear = None if _native is None else _native.linear
linear_many = None if _native is None else _native.linear_many
linear_gradients = None if _native is None else _native.linear_gradients
convolves: Any = (lambda: False) if _native is None else _native.convolves
convolution = None if _native is None else _native.convolution
convolution_gradients = None if _native is None else _native.convolution_gradients
address = _reference.address if _native is None else _native.address
dense, strided, add = _reference.dense, _reference.strided, _reference.add
normal, dots, many = _reference.normal, _reference.dots, _reference.many
fold, fold_many, kept, largest = _reference.fold, _reference.fold_many, _reference.kept, _reference.largest
try:
    select(os.environ.get("THINNED_ISA") or paths()[0])
except RuntimeError as error:
    if Path((sys.argv or [""])[0]).stem != "thinned":
        raise
    # The command line cannot say it: its package is imported after this one.
    print(f"Error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def prefer_large_pages(begin: int, bytes: int) -> None:
    """Ask for large pages under fresh memory (NumPy does the same for its own large arrays)."""
    if _native is not None:
        _native.prefer_large_pages(begin, bytes)


def attention(*call: Any) -> None:
    """Attention by tiles, as `thinned.torch` calls it; the reference has none."""
    if _native is None:
        raise RuntimeError("no native kernel: reinstall thinned with a C++ compiler")
    _native.attention(*call)


_threads: int | None = None
_MOST: Final = 2**31 - 1  # what a C int holds


@functools.cache
def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Tells how many threads one call of the NumPy front end may use.

    Returns:
        At least 1; unless set, the number of processors this process may run on.
    """
    return _processors() if _threads is None else _threads


def set_num_threads(n: int) -> None:
    """Set how many threads one call of the NumPy front end may use. No result depends on it.

    Args:
        n: at least 1. More than there are processors are of no use, and are not started.

    Raises:
        TypeError: `n must be an integer, got …`.
        ValueError: `n must be at least 1, got …`; `n must be at most 2147483647, got …`.

    Example:
        >>> set_num_threads(2)
        >>> get_num_threads()
        2
    """
    global _threads
    n = check_integer("n", n)
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if n > _MOST:
        raise ValueError(f"n must be at most {_MOST}, got {n}")
    _threads = n
