"""A mode gives every stochastic call of a model's forward pass a key."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thinned.contract import Key
from thinned.torch._conversion import _functional


@dataclass(frozen=True)
class Draw:
    """A call that draws, or a rate that no call used.

    Attributes:
        name: of the module in whose forward pass the call was, as `named_modules` has it; "" for the model.
        kind: what draws: "dropout", "dropout2d", "alpha_dropout", "attention", "lstm", "bernoulli", …
        p: drop probability, a number or a tensor; NaN where the call has none (uniform or normal numbers).
        shape: of what is drawn for, as the call had it; () where it was not reached.
        how: how the call was reached, or why it was not.
        reached: whether it draws.

    Example:
        >>> print(Draw("0", "dropout", 0.5, (2, 3), "by its layer"))
        0: dropout p=0.5, by its layer
    """

    name: str
    kind: str
    p: Any
    shape: tuple[int, ...]
    how: str
    reached: bool = True

    def __str__(self) -> str:
        """Writes the message on one line."""
        rate = f" p={self.p:g}" if isinstance(self.p, float) else f" p={self.p}"
        rate = "" if rate == " p=nan" else rate
        return f"{self.name or '(the model)'}: {self.kind}{rate}, {self.how}"


Handler = Callable[["Draws", Any, tuple[Any, ...], dict[str, Any]], Any]


class _Thread(threading.local):
    """A thread's contexts: its modes, outermost first, and whether one of them draws just now."""

    def __init__(self) -> None:
        self.entered: list[Draws] = []
        self.draws = False


THREAD = _Thread()


class Draws(TorchFunctionMode):
    """While it is entered, the stochastic calls of a model's modules draw by keys.

    torch calls a mode for each of its functions, in front of its fused paths, which it then leaves. What is
    taken over is drawn with all modes off, so that a call counts once, for the innermost of them.

    A call in no module at all is the model's, as is one in a module that the model's forward pass calls
    without having it among its own. A module that is called from elsewhere is none of the model's.

    Args:
        model: the module whose calls these are.
        handlers: from functions to what is drawn in their place.
    """

    always = False  # whether the model's own modules drop in evaluation too

    def __init__(self, model: torch.nn.Module, handlers: dict[Any, Handler]) -> None:
        super().__init__()
        self.model, self.handlers = model, handlers
        self.names = {module: name for name, module in model.named_modules()}
        self.found: list[Draw] = []
        self.inside: list[tuple[str | None, torch.nn.Module]] = []
        self.computes_again = False

    def begin(self) -> None:
        """A call of the model begins."""
        self.found = []

    def next_key(self, name: str) -> Key | Tensor:
        """The key of the next call that draws, in the module of this name."""
        raise NotImplementedError

    def again(self) -> Self:
        """The state as it is now, for a part of the forward pass that is computed again later."""
        other = copy.copy(self)
        other.found, other.inside, other.computes_again = list(self.found), list(self.inside), True
        return other

    def enter(self, module: torch.nn.Module) -> None:
        """The forward pass of a module begins."""
        if module is self.model and self.own is None:
            self.begin()
        self.inside.append((self.names.get(module), module))

    def leave(self, module: torch.nn.Module) -> None:
        """The forward pass of the module that was entered last has ended."""
        if self.inside and self.inside[-1][1] is module:
            self.inside.pop()

    @property
    def own(self) -> tuple[str, torch.nn.Module] | None:
        """The innermost of the model's own modules whose forward pass runs."""
        for name, module in reversed(self.inside):
            if name is not None:
                return name, module
        return None

    def drops(self, training: Any) -> bool:
        """Tells whether a call drops that was told this of its `training`."""
        is_own = not self.inside or self.inside[-1][0] is not None
        return bool(training) or (self.always and is_own)

    def takes(self, training: Any, key: Any) -> bool:
        """Tells whether the draw of a function of ours is taken over, which may have a key of its own."""
        return self.drops(training)

    def key_of_parts(self, site: Any, call: int | None = None, key: Any = None) -> Key | Tensor:
        """The key of a call of a layer of ours whose parts have a key each."""
        raise NotImplementedError

    def site(self, kind: str, p: Any, shape: Any, how: str = "") -> Key | Tensor:
        """The key of the next call that draws, which is noted."""
        name, module = self.own or ("", None)
        where = "" if module is None else f" in {type(module).__name__}.forward"
        rate = float(p) if isinstance(p, (int, float)) else p.detach() if isinstance(p, Tensor) else p
        if isinstance(rate, float) and math.isnan(rate) and module is not None and not how:
            # Random numbers, of which a rate will make a decision.
            rate = next(iter(_functional.rates(module).values()), rate)
        self.found.append(Draw(name, kind, rate, tuple(shape), how or f"a call{where}"))
        return self.next_key(name)

    def __enter__(self) -> Self:
        """Begins to take calls over, in this thread."""
        THREAD.entered.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        """Up to here."""
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        THREAD.entered.remove(self)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for each of its functions."""
        kwargs = kwargs or {}
        handler = self.handlers.get(func)
        if handler is None or THREAD.draws or self not in THREAD.entered:
            return func(*args, **kwargs)
        if self.inside and self.own is None:
            return func(*args, **kwargs)
        THREAD.draws = True
        try:
            return handler(self, func, args, kwargs)
        finally:
            THREAD.draws = False


@functools.cache
def signature(func: Any) -> inspect.Signature:
    """Returns the signature of a Python function."""
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
