"""The drop probability as a number or a tensor: what of it is known now, and what only when code runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned import contract
from thinned.torch import _eager, _onnx, _switch


def threshold(p: Any, input: Tensor) -> int | None:
    """D of p where its value is one number that is known here; None where an operator has to read it.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`, `p of shape … does not fit input of shape …`,
            `p has no gradient …`.
    """
    if not isinstance(p, Tensor):
        if torch.compiler.is_compiling() and isinstance(p, float):
            # A number that changes becomes a symbol after its second value, if Python does nothing to it.
            return None if contract.check_probability(p) > 0.0 else 0
        return contract.threshold(p)
    _check_tensor(p, input)
    if not _eager.applies(p):
        return None
    if p.dim() == 0:
        return contract.threshold(p.item())
    check_range(p)
    return None


def is_one(p: Any) -> bool:
    """Whether all elements have the same p: a number, or a tensor of one."""
    return not isinstance(p, Tensor) or p.numel() == 1


def check_range(p: Tensor, name: str = "p") -> None:
    """Refuse a tensor with an entry outside [0, 1], NaN among them."""
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"{name} must be in [0, 1], got {p.tolist()}")


def as_tensor(p: Any, drop: int | None) -> Tensor:
    """What an operator takes that drops: in an exported program, until that is turned to evaluation."""
    _onnx.refuse("this layer's way of dropping")
    return _switch.rate(exactly(p, drop))


def exactly(p: Any, drop: int | None = None) -> Tensor:
    """The probability as a tensor, whatever the code becomes."""
    if drop is not None:
        return torch.full((), drop / 2.0**32, dtype=torch.float64)
    if isinstance(p, Tensor):
        return p
    if _switch.exporting():  # no number is symbolic there, and a quantiser takes a sum for a layer's
        return torch.full((), p, dtype=torch.float64)
    # The one way to make a tensor of a symbolic number that does not bind the graph to its value.
    symbolic: Tensor = torch.zeros((), dtype=torch.float64) + p
    return symbolic


def expectation(input: Tensor, p: Any) -> Tensor:
    """Classic evaluation, input · (1 − p), for p that is not known here."""
    drop = torch.round(exactly(p).double() * 2.0**32)
    kept = (1.0 - drop / 2.0**32).to(input.device)
    wide = torch.promote_types(input.dtype, torch.float32)
    return (input.to(wide) * kept.to(wide)).to(input.dtype).masked_fill(kept == 0, 0)


def _check_tensor(p: Tensor, input: Tensor) -> None:
    if p.requires_grad:
        raise ValueError("p has no gradient: a mask is not differentiable in p; pass p.detach()")
    if p.dtype == torch.bool or p.is_complex():
        raise TypeError(f"p must be a real number, got {p!r}")
    fits = not p.dim() or (
        p.dim() == input.dim()
        and all(one in (1, size) for one, size in zip(p.shape, input.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"p of shape {tuple(p.shape)} does not fit input of shape {tuple(input.shape)}: give one number, "
            "or one dimension for each of input's, its size or 1 (one p per row of a matrix is p[:, None])"
        )
