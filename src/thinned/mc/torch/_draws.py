"""Every stochastic call of a forward pass, taken over and given a key."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thinned.contract import Key
from thinned.torch import _key
from thinned.torch._conversion import _unseen


@dataclass(frozen=True)
class Site:
    """A call that draws, or a rate that no call used.

    Attributes:
        name: of the module in whose forward pass the call was, as `named_modules` has it; "" for the model.
        kind: what draws: "dropout", "dropout2d", "alpha_dropout", "attention", "lstm", "bernoulli", …
        p: drop probability, a number or a tensor; NaN where the call has none (uniform or normal numbers).
        shape: of what is drawn for, as the call had it; () where it was not reached.
        how: how the call was reached, or why it was not.
        reached: whether it draws.
    """

    name: str
    kind: str
    p: Any
    shape: tuple[int, ...]
    how: str
    reached: bool = True

    def __str__(self) -> str:
        """On one line."""
        rate = f" p={self.p:g}" if isinstance(self.p, float) else f" p={self.p}"
        rate = "" if rate == " p=nan" else rate
        return f"{self.name or '(the model)'}: {self.kind}{rate}, {self.how}"


Handler = Callable[["Draws", Any, tuple[Any, ...], dict[str, Any]], Any]


class Draws(TorchFunctionMode):
    """While it is entered, stochastic calls draw by `key.fold(n)`: n counts them, from 0, where p > 0.

    torch calls a mode for each of its functions, in front of its fused paths, which it then leaves. What is
    taken over is drawn with the mode off, so that a call counts once.
    """

    def __init__(self, handlers: dict[Any, Handler]) -> None:
        super().__init__()
        self.handlers = handlers
        self.key: Key | Tensor = Key(0)
        self.number = 0
        self.found: list[Site] = []
        self.inside: list[tuple[str, torch.nn.Module]] = []

    def begin(self, key: Key | Tensor) -> None:
        """Start a forward pass, by this key."""
        self.key, self.number, self.found = key, 0, []

    def site(self, kind: str, p: Any, shape: Any, how: str = "") -> Key | Tensor:
        """The key of the next site, which is noted."""
        name, module = self.inside[-1] if self.inside else ("", None)
        where = "" if module is None else f" in {type(module).__name__}.forward"
        rate = float(p) if isinstance(p, (int, float)) else p
        if (
            isinstance(rate, float) and math.isnan(rate) and module is not None
        ):  # random numbers, of which a rate will make a decision
            rate = next(iter(_unseen.rates(module).values()), rate)
        self.found.append(Site(name, kind, rate, tuple(shape), how or f"a call{where}"))
        key = _key.folded(self.key, self.number)
        self.number += 1
        return key

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for each of its functions."""
        handler = self.handlers.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self, func, args, kwargs or {})


@functools.cache
def signature(func: Any) -> inspect.Signature:
    """Of a Python function."""
    return inspect.signature(func)


def given(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, with defaults; what a function takes as `**rest` by its own names."""
    bound = signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        found.update(value if rest else {name: value})
    return found
