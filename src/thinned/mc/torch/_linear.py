"""A linear layer as one operator under vmap: torch's rule makes a product and a sum of it.

In two GPT blocks the sum is a tenth of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("thinned_mc", "FRAGMENT")
_library.define("linear(Tensor bias, Tensor input, Tensor weight) -> Tensor")


def _run(bias: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    return torch.addmm(bias, input, weight)


def _batched(info: Any, in_dims: Any, bias: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor, int]:
    """Rows of all examples together, where they share weights; each by itself where they do not."""
    at_bias, at_input, at_weight = in_dims
    if at_bias is None and at_weight is None:
        rows = input.movedim(at_input, 0)
        out = torch.ops.thinned_mc.linear(bias, rows.flatten(0, 1), weight)
        return out.unflatten(0, rows.shape[:2]), 0
    bias, input, weight = (
        x if at is None else x.movedim(at, 0) for x, at in zip((bias, input, weight), in_dims, strict=True)
    )
    return input @ weight + (bias if at_bias is None else bias.unsqueeze(1)), 0


_library.impl("linear", _run, "CompositeExplicitAutograd")
torch.library.register_fake(
    "thinned_mc::linear",
    lambda bias, input, weight: input.new_empty(input.shape[0], weight.shape[1]),
    lib=_library,
)
torch.library.register_vmap("thinned_mc::linear", _batched, lib=_library)
