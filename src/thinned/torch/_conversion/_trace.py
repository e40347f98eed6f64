"""`torch.fx` records a model's graphs here, with each site and torch.nn module as one node."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import fx

from thinned.torch import _compat
from thinned.torch._conversion._walk import copied
from thinned.torch._site import Site


def whole(model: torch.nn.Module) -> list[fx.Graph]:
    """The graphs of training and of evaluation, with optional arguments given and not.

    Raises:
        Exception: whatever the model's code raises on stand-ins for tensors, where neither way can be traced.
    """
    signature = inspect.signature(model.forward)
    defaults = {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty}
    graphs = []
    for training in (True, False):
        made: list[fx.Graph] = []
        problem = RuntimeError("nothing to trace")
        for concrete in [None, defaults] if defaults else [None]:
            try:
                made.append(_traced(model, training, concrete))
            except Exception as error:
                problem = error  # type: ignore[assignment]
        if not made:
            raise problem
        graphs += made
    return graphs


def _traced(model: torch.nn.Module, training: bool, concrete: dict[str, Any] | None) -> fx.Graph:
    try:
        return _read(_Sites(), _stand_in(model, training), concrete)
    except Exception as error:
        with contextlib.suppress(Exception):  # a slice of a buffer, as of a causal mask, needs a stand-in
            return _read(_Buffers(), _stand_in(model, training), concrete)
        raise error


def _read(tracer: fx.Tracer, double: torch.nn.Module, concrete: dict[str, Any] | None) -> fx.Graph:
    """A graph, with the tensors that the model's code makes as it runs in `meta["made"]` of their nodes."""
    before = set(vars(double)) | set(double.state_dict())
    graph = tracer.trace(double, concrete)
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in set(vars(double)) - before:
            node.meta["made"] = getattr(double, str(node.target))
    return graph


def chains(model: torch.nn.Module) -> Iterator[tuple[str, fx.Graph]]:
    """Every nn.Sequential's name and graph, the outer ones first; what is no Sequential is one node."""
    for name, module in model.named_modules():
        if _is_chain(module):
            yield name, _Chains().trace(_stand_in(module, training=True))


class _Sites(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Site) or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["in_function"] = in_function()
        return node


def in_function() -> bool:
    """Tells whether a `torch.autograd.Function` is at work, as in a checkpoint with use_reentrant=True."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _APPLY:
        frame = frame.f_back
    return frame is not None


_APPLY = inspect.unwrap(torch.autograd.Function.apply).__code__


class _Buffers(_Sites):
    proxy_buffer_attributes = True


class _Chains(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return not _is_chain(m)


def _is_chain(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Sequential) and type(module).forward is torch.nn.Sequential.forward


def _stand_in(model: torch.nn.Module, training: bool) -> torch.nn.Module:
    """A copy for the model's own code to run in, which may count calls or keep what it saw.

    It shares the parameters, which no forward writes to, and has no hooks.
    """
    double = copied(model, shared={id(parameter): parameter for parameter in model.parameters()})
    for module in double.modules():
        module.training = training
        for hooks_of in _compat.HOOKS.values():
            hooks_of(module).clear()
    return double
