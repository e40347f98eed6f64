"""A nested tensor is dropped by its values here; other unusual layouts only evaluate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat


def is_unusual(input: Tensor) -> bool:
    """Tells whether a tensor is nested, sparse, quantised or of another layout: torch evaluates these."""
    return input.is_nested or input.layout != torch.strided or input.is_quantized


def dropout(input: Tensor, drop: Callable[[Tensor], Tensor], inplace: bool, **given: Any) -> Tensor:
    """Drop a nested tensor by its values: all components, each in C order, one after another.

    A component's mask does not depend on how the others are shaped, but on how much stands in front of it.

    Args:
        input: nested, of either layout.
        drop: what is to be done with the values, a tensor of memory.
        inplace: whether to write to the input.
        **given: arguments that need a shape, by their names.

    Raises:
        ValueError: `dropout of a nested tensor takes no …`; `… must be ragged in dimension 1 …`.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"dropout of a nested tensor takes no {name}, got {value}: its mask is that of its values, "
                "all components one after another; pass input.to_padded_tensor(0.0)"
            )
    if input.layout == torch.jagged:
        values, rebuild = _jagged(input)
    else:
        whole = input.contiguous()
        values, rebuild = whole.values(), lambda values: _compat.nested_from_values(values, whole)
    dropped = drop(values)
    if dropped is values:
        return input
    if not values.numel():
        return input if inplace else input.clone()
    return input.copy_(rebuild(dropped)) if inplace else rebuild(dropped)


def _jagged(input: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    if _compat.ragged_dimension(input) != 1 or input.lengths() is not None:
        raise ValueError(
            "dropout takes jagged tensors that are ragged in dimension 1 and have no holes, got shape "
            f"{tuple(input.shape)}: transpose afterwards, or pass input.contiguous()"
        )
    return input.values(), lambda values: torch.nested.nested_tensor_from_jagged(values, input.offsets())
