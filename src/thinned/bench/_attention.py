"""These rows compare attention with dropout, forward and backward, with torch's fused kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from thinned.bench._elementwise import P
from thinned.bench._row import Result, Row, result
from thinned.bench._timing import Settings, race
from thinned.bench._verdict import at_most
from thinned.torch import functional

_HEADS, _WIDTH = 8, 64
_OURS, _FUSED, _TORCH = "thinned, unkeyed", "torch's without dropout", "torch's with dropout"
# Of the shorter ones several samples: torch divides its work by heads and samples alone.
_LENGTHS = {256: 4, 1024: 1, 4096: 1}
_AGAINST_TORCH = {1024: at_most(0.35), 4096: at_most(0.3)}
_LONG = 2048  # a round of what is longer takes seconds


def _row(dtype: torch.dtype, length: int, causal: bool) -> Row:
    def measure(settings: Settings) -> Result:
        tokens = settings.size(length)
        shape = (_LENGTHS[length], tokens, _HEADS, _WIDTH)
        operands = [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for _ in range(3)]
        upstream = torch.randn(shape).to(dtype).transpose(1, 2)
        torchs = torch.nn.functional.scaled_dot_product_attention

        def both(attend: Callable[..., Tensor], p: float, **more: bool) -> Callable[[], object]:
            return lambda: torch.autograd.grad(attend(*operands, None, p, causal, **more), operands, upstream)

        if length > _LONG:
            settings = replace(settings, repeats=min(settings.repeats, 5))
        ours = both(functional.scaled_dot_product_attention, P, training=True)
        found = race({_OURS: ours, _FUSED: both(torchs, 0.0), _TORCH: both(torchs, P)}, settings)
        return result(
            found,
            found.figure(_OURS, _FUSED, at_most(1.3)),
            found.figure(_OURS, _TORCH, _AGAINST_TORCH.get(length)),
        )

    name = f"attention, {str(dtype).removeprefix('torch.')}, {length}" + (", causal" if causal else "")
    return Row(name, measure)


ROWS = tuple(
    _row(dtype, length, causal)
    for dtype in (torch.float32, torch.bfloat16)
    for length in _LENGTHS
    for causal in (False, True)
)
