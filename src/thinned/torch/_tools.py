"""torch.fx, torch.jit.trace and torch.jit.script see a site as one module through this file."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate
from torch.overrides import has_torch_function

from thinned.torch import _compat

_TracerWarning: Any = torch.jit.TracerWarning  # type: ignore[attr-defined]


_compat.ROOM.check("torch.nn.Module._call_impl", "torch.nn.Module._slow_forward")


class Seen(torch.nn.Module):
    """A module that tools see as one thing.

    What it does depends on `training`, on a key and on a step, none of which a recorded forward pass would
    look at again. torch.fx therefore records the call of the module, whatever its tracer holds for a leaf:
    tools of torch name the modules of torch.nn, and these are none.
    """

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        # As an ordinary call: hooks belong to the module, and run when the recorded call runs.
        if torch.compiler.is_compiling():
            return _compat.call_module(self, *args, **kwargs)
        if (kwargs or has_torch_function(args)) and (stand_in := _stand_in(args, kwargs)) is not None:
            return _record(self, stand_in.tracer, args, kwargs)
        return _compat.call_module(self, *args, **kwargs)

    def _slow_forward(self, *args: Any, **kwargs: Any) -> Any:
        # torch calls this in place of `forward` while torch.jit.trace is at work.
        if self.training and getattr(self, "key", None) is not None:
            warnings.warn(
                f"{type(self).__name__} has a key: torch.jit.trace records the mask of this step, which "
                "set_step does not reach; trace an unkeyed model, or use torch.compile",
                _TracerWarning,
                stacklevel=2,
            )
        return _compat.trace_module(self, *args, **kwargs)

    def __prepare_scriptable__(self) -> Any:
        """torch.jit.script asks for what is to be compiled in a module's place.

        Raises:
            TypeError: always, with what can be compiled.
        """
        kind = type(self)
        raise TypeError(
            f"torch.jit.script cannot compile {kind.__module__.rpartition('._')[0]}.{kind.__qualname__}: "
            "script thinned.torch.unconvert(model, copy=True).model, which has torch.nn's layers, or "
            "thinned.torch.strip(model, copy=True).model, which has none and evaluates alike; "
            "torch.jit.trace, torch.export and torch.compile take the model as it is"
        )


def _stand_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Proxy | None:
    """The first argument, however deep, that torch.fx put in a tensor's place."""
    found: list[fx.Proxy] = []

    def look(argument: Any) -> Any:
        if isinstance(argument, fx.Proxy):
            found.append(argument)
        return argument

    map_aggregate((args, kwargs), look)
    return found[0] if found else None


def _record(site: torch.nn.Module, tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(tracer, fx.Tracer):
        raise TypeError(
            f"{type(site).__name__} was called with a torch.fx.Proxy whose tracer knows no model, and so has "
            "no name to be recorded by: trace the model, torch.fx.symbolic_trace(model), or call the verb of "
            "thinned.torch.functional, which is recorded with training as given"
        )
    return tracer.create_proxy("call_module", tracer.path_of_module(site), args, kwargs)
