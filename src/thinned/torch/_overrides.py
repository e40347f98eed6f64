"""Functions that torch's own protocol can take over, as it can torch's: tensor subclasses, and modes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from thinned.torch import _compat

_ORDINARY = (torch.Tensor, torch.nn.Parameter)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def overridable(verb: Verb) -> Verb:
    """Offer a function to `__torch_function__` of its first argument, and of the modes around the call.

    A `torch.overrides.TorchFunctionMode` sees what it returns as `func`. Where nobody asks it costs 0.2 µs.
    """

    @functools.wraps(verb)
    def offered(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else next(iter(kwargs.values()), None)
        if has_torch_function_unary(first) and not _only_jagged(first):
            return handle_torch_function(offered, (first,), *args, **kwargs)
        if type(first) not in _ORDINARY and not torch.compiler.is_compiling():
            # A tensor of FakeTensorMode brings it along: what a verb makes beside it has to be fake too.
            with getattr(first, "fake_mode", None) or contextlib.nullcontext():
                return verb(*args, **kwargs)
        return verb(*args, **kwargs)

    return offered  # type: ignore[return-value]


def _only_jagged(first: Any) -> bool:
    """Whether torch's jagged tensors alone ask: they would call the function with their own protocol off."""
    return getattr(first, "layout", None) is torch.jagged and not _compat.function_modes()
