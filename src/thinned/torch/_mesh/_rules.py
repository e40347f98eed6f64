"""Our operators run here on a DTensor's local part, told where it is in the whole.

A mask is a function of the position in the whole, so that no rule ever moves data: outputs are placed as
inputs are. Dropout is linear, so that a pending sum stays pending: the mask of the sum is the mask of each
addend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial

from thinned.torch import _compat
from thinned.torch._mesh import _shard

# Reductions that a product with a number not below zero commutes with; and with any number.
_BY_NOT_NEGATIVE = ("sum", "avg", "max", "min")
_BY_ANY = ("sum", "avg")

Rule = Callable[[dict[str, Any], _shard.Sizes], None]


def register() -> None:
    """Register the rules with torch; to be called once."""
    for name, rule, reductions in (
        ("dropout", _diagonal, _BY_NOT_NEGATIVE),
        ("gaussian_dropout", _diagonal, _BY_ANY),
        ("drop_block", _samples, _BY_NOT_NEGATIVE),
    ):
        torch.library.register_torch_dispatch(f"thinned::{name}", DTensor, _on_parts(rule, reductions))


def _on_parts(rule: Rule, reductions: tuple[str, ...]) -> Callable[..., Any]:
    """An operator `name(Tensor input, Tensor key, Tensor p, …)`, of which the rule changes the arguments."""

    def run(_cls: Any, operator: Any, _types: Any, args: Any, kwargs: Any = None) -> Tensor:
        names = [argument.name for argument in _compat.schema_of(operator).arguments]
        named = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        named.pop("coordinate", None)
        input = named["input"]
        if not isinstance(input, DTensor):
            raise TypeError(
                "p is a DTensor and the input is not: pass p.full_tensor(), or distribute the input"
            )
        _check_placements(input, operator, reductions)
        first = _shard.begin(input)
        here = _shard.local(input)
        if first is not None:
            rule(named, first)
            sizes = tuple(here.shape)
            named["p"] = _shard.same_part(named["p"], input.shape, first, sizes)
            here = operator(**{**named, "input": here})
        return DTensor.from_local(
            here,
            input.device_mesh,
            input.placements,
            run_check=False,
            shape=input.shape,
            stride=input.stride(),
        )

    return run


def _check_placements(input: DTensor, operator: Any, reductions: tuple[str, ...]) -> None:
    for placement in input.placements:
        pending = placement.is_partial()
        if pending and (type(placement) is not Partial or placement.reduce_op not in reductions):
            raise ValueError(
                f"{operator} does not commute with the reduction of a DTensor placed by {placement}: reduce "
                "it first, input.redistribute(placements=[Replicate()])"
            )


def _diagonal(named: dict[str, Any], first: _shard.Sizes) -> None:
    """Dropout and its like: a part of the whole, or of the part of a larger whole that the DTensor is."""
    if named["key"].dim() > 1:
        raise NotImplementedError("vmap of dropout over a DTensor: pass keys one by one")
    whole, rank = named["input"].shape, len(first)
    start = named.get("start") or (0,) * rank
    step = named.get("step") or (1,) * rank
    named["global_shape"] = list(named.get("global_shape") or whole)
    named["start"] = [outer + by * inner for outer, by, inner in zip(start, step, first, strict=True)]
    named["step"] = list(step)


def _samples(named: dict[str, Any], first: _shard.Sizes) -> None:
    """DropBlock: whole samples, since each is scaled by what it has lost."""
    input = named["input"]
    for placement in input.placements:
        if placement.is_shard() and placement.dim != 0:
            raise ValueError(
                f"DropBlock scales each sample by what it has lost, so a rank needs whole samples, got a "
                f"DTensor placed by {placement}: redistribute it to Shard(0) or Replicate()"
            )
    named["start"] = named.get("start", 0) + named.get("step", 1) * first[0]
