"""`thinned::largest` and `thinned::keep_fixed` keep a fixed number of units.

Which units those are depends on the key alone, how many on p and their number. So a compiled graph has shapes
that no mask changes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned import _fixed, _kernel
from thinned._arguments import check_mode, check_training
from thinned.contract import Key
from thinned.torch import _inductor, _key, _plain, _rate
from thinned.torch._key_tensor import words_of
from thinned.torch._overrides import overridable

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define("largest(Tensor key, SymInt rows, SymInt size, SymInt count) -> Tensor")
_library.define("keep_fixed(Tensor key, Tensor p, SymInt rows, SymInt size) -> Tensor")


def largest(key: Tensor, rows: int, size: int, count: int) -> Tensor:
    """Call `thinned::largest`: the kept units of each row, ascending; key (…, 2) → int64 (…, rows, count)."""
    found: Tensor = torch.ops.thinned.largest(key, rows, size, count)
    return found


@overridable
def fixed_dropout(
    input: Tensor,
    p: float | Tensor,
    training: bool,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    mode: str = "inverted",
) -> Tensor:
    """Drop all but a fixed number of units in each row.

    Args:
        input: of shape (rows, units), a row for each decision.
        p: drop probability, a number or a tensor of one.
        training: True drops, False evaluates.
        key: of the decisions; drawn from `generator` if not given.
        generator: where a key is drawn from.
        mode: "inverted" multiplies what is kept by units / kept; "classic" evaluates to input · kept / units.

    Returns:
        A tensor of the input's shape; +0.0 where dropped.

    Raises:
        ValueError: `p must be one number where a fixed number of units is kept, got …`.
    """
    inverted = check_mode(mode)
    if isinstance(p, Tensor) and p.numel() != 1:
        raise ValueError(
            "p must be one number where a fixed number of units is kept, got a tensor of shape "
            f"{tuple(p.shape)}"
        )
    if not check_training(training):
        return (
            input
            if inverted
            else _scaled(input, _count(_rate.exactly(p).reshape(()), input.shape[1]) / max(input.shape[1], 1))
        )
    rows, size = input.shape
    drop = _rate.threshold(p, input)
    if drop == 0:
        return input
    source = _key.check_source(key, generator)
    bits = (
        torch.zeros(2, dtype=torch.int64, device="cpu")
        if drop == 2**32
        else _key.as_tensor(source, generator)
    )
    rate = _rate.exactly(p, drop).reshape(())
    kept = torch.ops.thinned.keep_fixed(bits, rate, rows, size).to(input.device)
    count = _count(rate, size).double().clamp(min=1)
    # Not size / count, of which torch makes a product with a rounded reciprocal.
    factor = (torch.zeros_like(count) + size) / count if inverted else torch.ones_like(count)
    return _scaled(input, factor).masked_fill(~kept, 0)


def _scaled(input: Tensor, factor: Tensor) -> Tensor:
    wide = torch.promote_types(input.dtype, torch.float32)
    return (input.to(wide) * factor.to(wide).to(input.device)).to(input.dtype)


def _count(p: Tensor, size: int) -> Tensor:
    """`thinned._fixed.kept_units` of a tensor."""
    drop = torch.round(_plain.double(p) * 2.0**32).long()
    count = size - (drop * size + 2**31 >> 32)
    least = (drop < 2**32).long() * min(size, 1)
    return torch.maximum(count, least) * least


def _largest(key: Tensor, rows: int, size: int, count: int) -> Tensor:
    _check(key)
    keys = key.cpu().reshape(-1, 2)
    kept = torch.empty((len(keys), rows, count), dtype=torch.int64, device="cpu")
    for k in range(len(keys)):
        _kernel.largest(*words_of(keys[k]), rows, size, count, kept[k].data_ptr())
    return kept.reshape(*key.shape[:-1], rows, count).to(key.device)


def _keep_fixed(key: Tensor, p: Tensor, rows: int, size: int) -> Tensor:
    _rate.check_range(p)
    kept = _largest(key, rows, size, _fixed.kept_units(p.item(), size))
    mask = torch.zeros((*key.shape[:-1], rows, size), dtype=torch.bool, device=key.device)
    return mask.scatter_(-1, kept, torch.ones_like(kept, dtype=torch.bool))


def _check(key: Tensor) -> None:
    if key.dtype != torch.int64 or not key.dim() or key.shape[-1] != 2:
        raise TypeError(f"key must be int64 of shape (…, 2), got {key.dtype} of shape {tuple(key.shape)}")


def _largest_fake(key: Tensor, rows: int, size: int, count: int) -> Tensor:
    _inductor.tell()
    return key.new_empty((*key.shape[:-1], rows, count))


def _keep_fixed_fake(key: Tensor, p: Tensor, rows: int, size: int) -> Tensor:
    _inductor.tell()
    return key.new_empty((*key.shape[:-1], rows, size), dtype=torch.bool)


def _largest_vmap(info: Any, in_dims: Any, key: Tensor, *rest: Any) -> tuple[Tensor, int]:
    return torch.ops.thinned.largest(key.movedim(in_dims[0], 0), *rest), 0


def _keep_fixed_vmap(info: Any, in_dims: Any, key: Tensor, p: Tensor, *rest: Any) -> tuple[Tensor, int]:
    keys = key.expand(info.batch_size, *key.shape) if in_dims[0] is None else key.movedim(in_dims[0], 0)
    if in_dims[1] is None:
        return torch.ops.thinned.keep_fixed(keys, p, *rest), 0
    each = zip(keys, p.movedim(in_dims[1], 0), strict=True)
    return torch.stack([torch.ops.thinned.keep_fixed(*one, *rest) for one in each]), 0


_OPERATORS: tuple[tuple[str, Any, Any, Any], ...] = (
    ("largest", _largest, _largest_fake, _largest_vmap),
    ("keep_fixed", _keep_fixed, _keep_fixed_fake, _keep_fixed_vmap),
)
for _name, _run, _fake, _vmap in _OPERATORS:
    _library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"thinned::{_name}", _fake, lib=_library)
    torch.library.register_vmap(f"thinned::{_name}", _vmap, lib=_library)
    _key.vmap_with_keys(_library, _name, 0)
