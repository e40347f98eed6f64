"""Tensor subclasses and modes can take our functions over, as they can torch's."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from thinned.torch import _compat
from thinned.torch._placement import Place

_ORDINARY = (torch.Tensor, torch.nn.Parameter)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def overridable(verb: Verb) -> Verb:
    """Offer a function to `__torch_function__` of its first argument, and of the modes around the call.

    A `torch.overrides.TorchFunctionMode` sees what it returns as `func`. Without a mode it costs 0.2 µs.
    """
    parameters = inspect.signature(verb).parameters.values()
    names = [each.name for each in parameters if str(each.annotation).startswith("Tensor")]
    known = _known(verb)
    last = max((place for place, each in enumerate(parameters, 1) if each.name in names), default=1)

    @functools.wraps(verb)
    def offered(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs if known else ():
            if name not in known:
                raise TypeError(f"{verb.__name__}() got an unexpected keyword argument {name!r}")
        first = args[0] if args else next(iter(kwargs.values()), None)
        if has_torch_function_unary(first) and not _only_jagged(first):
            return handle_torch_function(public, (first,), *args, **kwargs)
        if type(first) not in _ORDINARY and not torch.compiler.is_compiling():
            # A tensor of FakeTensorMode brings it along: what a verb makes beside it has to be fake too.
            with getattr(first, "fake_mode", None) or contextlib.nullcontext():
                return verb(*args, **kwargs)
        return verb(*args, **kwargs)

    @functools.wraps(verb)
    def offered_by_any(*args: Any, **kwargs: Any) -> Any:
        others = (*args[1:last], *(kwargs[name] for name in names if name in kwargs))
        if has_torch_function(others) and not any(_only_jagged(each) for each in others):
            return handle_torch_function(public, (*args[:1], *others), *args, **kwargs)
        return offered(*args, **kwargs)

    public = offered if last == 1 else offered_by_any
    return public  # type: ignore[return-value]


def _known(verb: Callable[..., Any]) -> frozenset[str]:
    """The keywords of a verb with `**place`, which evaluation does not read; none for others."""
    parameters = inspect.signature(verb).parameters.values()
    named = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    return frozenset() if len(named) == len(parameters) else frozenset(named | set(Place.__annotations__))


def _only_jagged(first: Any) -> bool:
    """Tells whether only torch's jagged tensors ask: they would call the function without their protocol."""
    return getattr(first, "layout", None) is torch.jagged and not _compat.function_modes()
