"""Random numbers that a forward pass draws itself: what drop paths and noise layers of others are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from thinned import contract
from thinned._position import row_major
from thinned.contract import Key
from thinned.torch import _key, _plain, functional
from thinned.torch._conversion import _functional
from thinned.torch._draws._mode import Draws, Handler
from thinned.torch._draws._seeded import seeded

_STEPS = 2.0**-24  # float32 holds so many in [0, 1)

_library = torch.library.Library("thinned", "FRAGMENT")
_library.define("numbers(Tensor key, SymInt[] shape, str kind, Device device) -> Tensor")


def uniform(like: Tensor, key: Key | Tensor) -> Tensor:
    """Uniform numbers in [0, 1), of the shape and dtype of a tensor: the first 24 bits of each position."""
    return _numbers(like, key, "uniform")


def normal(like: Tensor, key: Key | Tensor) -> Tensor:
    """Normal deviates, of the shape and dtype of a tensor."""
    return _numbers(like, key, "normal")


def _numbers(like: Tensor, key: Key | Tensor, kind: str) -> Tensor:
    drawn = torch.ops.thinned.numbers(_key.as_tensor(key), like.shape, kind, like.device)
    result: Tensor = drawn.to(like.dtype)
    return result


def _run(key: Tensor, shape: Sequence[int], kind: str, device: torch.device) -> Tensor:
    """In double, or float32 for deviates; an operator, since a trace of all its steps has 800 nodes."""
    sizes = (*key.shape[:-1], *shape)
    seed, stream = (w.reshape((*w.shape, *(1,) * len(shape))) for w in key.to(device).unbind(-1))
    words = (seed, stream)
    strides = row_major(tuple(shape))
    if kind == "normal":
        return _plain.normal(sizes, words, 0, strides, device).expand(sizes).clone()
    position = _plain._positions(sizes, 0, strides, device)
    high, low = (_plain._halfword(position, words, t) for t in (contract.PURPOSE_HIGH, contract.PURPOSE_LOW))
    return ((high << 16 | low) >> 8).double() * _STEPS


def _batched(info: Any, in_dims: Any, key: Tensor, *rest: Any) -> tuple[Tensor, int]:
    return torch.ops.thinned.numbers(key.movedim(in_dims[0], 0), *rest), 0


def _shape(key: Tensor, shape: Sequence[int], kind: str, device: torch.device) -> Tensor:
    dtype = torch.float32 if kind == "normal" else torch.float64
    return torch.empty((*key.shape[:-1], *shape), dtype=dtype, device=device)


torch.library.register_fake("thinned::numbers", _shape, lib=_library)
_library.impl("numbers", _run, "CompositeExplicitAutograd")
torch.library.register_vmap("thinned::numbers", _batched, lib=_library)


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
