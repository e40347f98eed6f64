"""How verbs check a rate that no mask operator checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.torch import _eager, _operands, _rate


def check_rate(p: Any, input: Tensor, name: str = "p") -> None:
    """Refuse what is no floating tensor in [0, 1] that fits the input; its values where they are at hand."""
    if not isinstance(p, Tensor) or not p.is_floating_point():
        got = f"a tensor of {p.dtype}" if isinstance(p, Tensor) else repr(p)
        raise TypeError(
            f"{name} must be a floating tensor, got {got}: where it is not learned, dropout and "
            "gaussian_dropout take a number"
        )
    _operands.check_fit(p, input)
    if not torch.compiler.is_compiling() and _eager.applies(p.detach()):
        _rate.check_range(p.detach(), name)


def check_number(p: Any, input: Tensor) -> None:
    """Refuse what is no probability of no dimension."""
    _rate.threshold(p, input)
    if isinstance(p, Tensor) and p.dim():
        raise ValueError(f"p must be one number here, got a tensor of shape {tuple(p.shape)}")
