"""Random numbers that a forward pass draws itself are handled here: other packages' noise layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from thinned.torch import functional
from thinned.torch._conversion import _functional
from thinned.torch._draws._mode import Draws, Handler
from thinned.torch._draws._seeded import seeded
from thinned.torch._numbers import normal, uniform


def _bernoulli(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
    """`bernoulli(input)`, whose input is the probability of 1; with p, `input` gives the shape."""
    input, *rest = args
    p = kwargs.get("p", rest[0] if rest else None)
    in_place = func in (torch.Tensor.bernoulli_,)
    if p is None and in_place:
        p = 0.5
    chance = input if p is None else p
    key = draws.site("bernoulli", _rate(draws, _number(chance)), input.shape)
    if isinstance(chance, Tensor):
        drawn = (uniform(input, key) < chance).to(input.dtype)
    else:
        ones = torch.ones(input.shape, dtype=torch.float32, device=input.device)
        kept = functional.dropout(ones, 1.0 - chance, True, key=key, mode="classic")
        drawn = kept.to(input.dtype)
    target = input if in_place else kwargs.get("out")
    return _into(target, drawn)


def _into(target: Tensor | None, drawn: Tensor) -> Tensor:
    """Return what was drawn, in the tensor that was given for it."""
    if target is None:
        return drawn
    # No trace can hold a resize, and hardly one is needed.
    return (target if target.shape == drawn.shape else target.resize_(drawn.shape)).copy_(drawn)


def _number(chance: Any) -> float:
    """A probability, if it is one and is to be seen: not in a trace, nor in tensors of many."""
    if not isinstance(chance, Tensor):
        return float(chance)
    if get_proxy_mode() is not None or not chance.numel() or chance.min() != chance.max():
        return math.nan
    return round(float(chance.max()), 6)  # float32 has seven digits


def _rate(draws: Draws, chance: float) -> float:
    """The chance to drop: that of 0, or of 1 where that is nearer to the rate that the module holds."""
    held = [] if draws.own is None else list(_functional.rates(draws.own[1]).values())
    return min(1.0 - chance, chance, key=lambda p: abs(p - held[0])) if held else 1.0 - chance


def _made(kind: str, fill: Any, make: Any) -> Handler:
    """A function that makes a tensor and fills it."""

    def handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
        left = ("generator", "out", "requires_grad")
        empty = make(*args, **{name: value for name, value in kwargs.items() if name not in left})
        if empty.is_complex():  # two numbers each
            return seeded(draws, func, args, kwargs)
        drawn = fill(empty, draws.site(kind, math.nan, empty.shape))
        result = _into(kwargs.get("out"), drawn)
        return result.requires_grad_() if kwargs.get("requires_grad") else result

    return handler


def _filled(kind: str, fill: Any) -> Handler:
    """A method `(from, to)` or `(mean, std)` that fills a tensor."""

    def handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
        target, *rest = args
        if target.is_complex():
            return seeded(draws, func, args, kwargs)
        first, second = (*rest, *(kwargs.get(n) for n in _ORDER[kind][len(rest) :]))[:2]
        a, b = 0.0 if first is None else first, 1.0 if second is None else second
        drawn = fill(target, draws.site(kind, math.nan, target.shape))
        return target.copy_(drawn * (b - a) + a if kind == "uniform" else drawn * b + a)

    return handler


_ORDER = {"uniform": ("from", "to"), "normal": ("mean", "std")}

HANDLERS: dict[Any, Handler] = {
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch.Tensor.bernoulli_: _bernoulli,
    torch.ops.aten.bernoulli.p: _bernoulli,
    torch.ops.aten.bernoulli.default: _bernoulli,
    torch.rand: _made("uniform", uniform, torch.empty),
    torch.rand_like: _made("uniform", uniform, torch.empty_like),
    torch.randn: _made("normal", normal, torch.empty),
    torch.randn_like: _made("normal", normal, torch.empty_like),
    torch.Tensor.uniform_: _filled("uniform", uniform),
    torch.Tensor.normal_: _filled("normal", normal),
}
