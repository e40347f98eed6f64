"""A drop probability is a number, checked at once, or a tensor, checked when code runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned import contract
from thinned.torch import _eager, _export, _onnx, _operands, _plain


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
    """Tells whether all elements have the same p: a number, or a tensor of one."""
    return not isinstance(p, Tensor) or p.numel() == 1


def check_range(p: Tensor, name: str = "p") -> None:
    """Refuse a tensor with an entry outside [0, 1], NaN among them."""
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"{name} must be in [0, 1], got {p.tolist()}")


def as_tensor(p: Any, drop: int | None) -> Tensor:
    """The p of an operator that drops: in an exported program, until that is turned to evaluation."""
    _onnx.refuse("this layer's way of dropping")
    return _export.rate(exactly(p, drop))


def exactly(p: Any, drop: int | None = None) -> Tensor:
    """The probability as a tensor, whatever the code becomes."""
    if drop is not None:
        return torch.full((), drop / 2.0**32, dtype=torch.float64, device="cpu")
    if isinstance(p, Tensor):
        return p
    if _export.exporting():  # no number is symbolic there, and a quantiser takes a sum for a layer's
        return torch.full((), p, dtype=torch.float64, device="cpu")
    # The one way to make a tensor of a symbolic number that does not bind the graph to its value.
    symbolic: Tensor = torch.zeros((), dtype=torch.float64, device="cpu") + p
    return symbolic


def expectation(input: Tensor, p: Any) -> Tensor:
    """Classic evaluation, input · (1 − p), for p that is not known here."""
    drop = torch.round(_plain.double(exactly(p)) * 2.0**32)
    wide = torch.promote_types(input.dtype, torch.float32)
    kept = (1.0 - drop / 2.0**32).to(wide).to(input.device)
    return (input.to(wide) * kept).to(input.dtype).masked_fill(kept == 0, 0)


def _check_tensor(p: Tensor, input: Tensor) -> None:
    if p.requires_grad:
        raise ValueError(
            "p has no gradient: a mask is not differentiable in p; pass p.detach(), or take "
            "concrete_dropout, whose relaxed mask is"
        )
    if p.dtype == torch.bool or p.is_complex():
        raise TypeError(f"p must be a real number, got {p!r}")
    _operands.check_fit(p, input)


def p_of_timm(p: Any, drop_prob: Any) -> Any:
    """The probability, by our name or by timm's."""
    if (p is None) == (drop_prob is None):
        got = f"got p={p} and drop_prob={drop_prob}"
        raise TypeError(f"p must be a real number: pass p, or drop_prob as timm names it, {got}")
    return drop_prob if p is None else p


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
        check_range(p.detach(), name)


def check_number(p: Any, input: Tensor) -> None:
    """Refuse what is no probability of no dimension."""
    threshold(p, input)
    if isinstance(p, Tensor) and p.dim():
        raise ValueError(f"p must be one number here, got a tensor of shape {tuple(p.shape)}")
