"""Which units a site keeps, as numbers: those of its mask, or a fixed number of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned import _fixed, _kernel
from thinned._arguments import DROP_ALL, effect
from thinned.contract import threshold
from thinned.torch import _fixed as _operators
from thinned.torch import _key
from thinned.torch._site import MaskKey, traced
from thinned.torch._thin._kept import Kept


def drawn(key: MaskKey, p: float, rows: int, size: int, inverted: bool) -> Kept:
    """The kept units of each row of a mask."""
    drop, factor = _effect(p, inverted) if type(p) is float else effect(threshold(p), True, inverted)
    words = (0, 0) if drop in (0, DROP_ALL) else _key.as_words(key)
    found = _kernel.kept(*words, drop, rows, size)
    parts = tuple(map(numbers, found))
    return Kept(parts, size, (factor if any(found) else 0.0) if size else 1.0)


@functools.lru_cache
def _effect(p: float, inverted: bool) -> tuple[int, float]:
    return effect(threshold(p), True, inverted)


def numbers(found: bytearray) -> Tensor:
    """What the kernel keeps of a row, int64."""
    if found:
        return torch.frombuffer(found, dtype=torch.int64)  # to fill a new tensor takes twice as long
    return torch.empty(0, dtype=torch.int64, device="cpu")


def fixed(key: Callable[[], MaskKey], p: Any, rows: int, size: int, inverted: bool) -> Kept | None:
    """The kept units of each row; None where their number is not known, as of a schedule in a graph.

    A key is asked for where the masked computation asks for one, so that what is drawn later is the same.
    """
    if isinstance(p, Tensor):
        if traced():
            return None
        p = p.item()
    drop, count = threshold(p), _fixed.kept_units(p, size)
    scale = _fixed.scale(size, count, inverted)
    if drop in (0, 2**32):
        return Kept((torch.arange(count, device="cpu"),) * rows, size, scale)
    if traced():
        kept = _operators.largest(_key.as_tensor(key()), rows, size, count)
    else:
        kept = torch.empty((rows, count), dtype=torch.int64, device="cpu")
        _kernel.largest(*_key.as_words(key()), rows, size, count, kept.data_ptr())
    return Kept(tuple(kept.unbind(0)), size, scale)
