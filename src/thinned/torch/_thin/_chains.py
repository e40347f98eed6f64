"""Which modules around a site can compute, or read, what it keeps alone: read from a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from thinned.torch._thin._graphs import Graph, StaysError, check_hooks, is_site
from thinned.torch._thin._pointwise import is_pointwise, keeps_scale, runs

_LINEAR = (torch.nn.Linear,)
_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
_DRAWS = (torch.nn.RNNBase, torch.nn.MultiheadAttention, torch.nn.RReLU)


@dataclass(frozen=True)
class Chain:
    """The modules around a site, by what they are in `Link`."""

    sources: tuple[torch.nn.Module, ...]
    sinks: tuple[torch.nn.Module, ...]
    norms: tuple[torch.nn.Module, ...]


class _Seen(Exception):
    """Why modules before a site do not thin: the site then takes what it keeps out of its input."""


def chain(graph: Graph, site: torch.nn.Module, channels: bool) -> Chain:
    """The modules that a site's decision reaches in one graph.

    Raises:
        StaysError: if nothing behind it can read what it keeps alone.
    """
    calls = graph.calls_of(site)
    if len(calls) != 1:
        raise StaysError(f"it is called {len(calls)} times in a forward pass, and has one decision")
    call = calls[0]
    if len(call.args) != 1 or call.kwargs or not isinstance(call.args[0], fx.Node):
        raise StaysError("it is called with more than a tensor")
    behind, sinks = _behind(graph, call, channels)
    check_hooks(graph, [call, *behind])
    try:
        before, sources, norms = _before(graph, call, channels)
        check_hooks(graph, [*before, call, *behind])
    except (_Seen, StaysError):
        sources, norms = (), ()
    return Chain(sources, tuple(dict.fromkeys(sinks)), norms)


def _behind(graph: Graph, call: fx.Node, channels: bool) -> tuple[list[fx.Node], list[torch.nn.Module]]:
    nodes, sinks, way = [], [], [call]
    for node in way:
        if not node.users:
            raise StaysError("nothing takes its output")
        for user in node.users:
            module = graph.calls.get(user)
            if user.op == "output":
                raise StaysError("its output is one of the model's, or of the part that could be traced")
            if user.args[:1] == (node,) and keeps_scale(graph, user, channels):
                way.append(user)
            elif (
                module is not None and user.args == (node,) and not user.kwargs and _is_map(module, channels)
            ):
                _once(graph, module)
                sinks.append(module)
            else:
                raise StaysError(f"it feeds {_name(graph, user)}, which does not read units one by one")
            nodes.append(user)
    return nodes, sinks


def _before(graph: Graph, call: fx.Node, channels: bool) -> tuple[Any, ...]:
    inside: list[fx.Node] = [call]
    sources: list[fx.Node] = []
    norms: list[torch.nn.Module] = []
    for node in inside:
        for one in [] if node in sources else node.all_input_nodes:
            module = graph.calls.get(one)
            if one in inside:
                continue
            if module is not None and _is_map(module, channels):
                _once(graph, module)
                sources.append(one)
            elif module is not None and channels and runs(module, _NORMS) and module.track_running_stats:
                _once(graph, module)
                norms.append(module)
            elif not is_pointwise(graph, one, channels):
                raise _Seen
            inside.append(one)
    region = set(inside)
    if any(user not in region for node in inside if node is not call for user in node.users):
        raise _Seen
    sources.sort(key=graph.nodes.index)
    if not sources or _draws_between(graph, sources[0], call):
        raise _Seen
    return inside, tuple(graph.calls[node] for node in sources), tuple(norms)


def _draws_between(graph: Graph, first: fx.Node, last: fx.Node) -> bool:
    """Whether something else may draw between them: the order of draws would be another."""
    begin, end = graph.nodes.index(first) + 1, graph.nodes.index(last)
    between = (graph.calls.get(node) for node in graph.nodes[begin:end])
    return any(module is not None and (is_site(module) or isinstance(module, _DRAWS)) for module in between)


def _once(graph: Graph, module: torch.nn.Module) -> None:
    if len(graph.calls_of(module)) > 1:
        raise StaysError(f"{type(module).__name__} next to it is called more than once in a forward pass")


def _is_map(module: torch.nn.Module, channels: bool) -> bool:
    """Whether a module is a linear map of units, with a weight that it holds itself."""
    if not runs(module, _CONVS if channels else _LINEAR):
        return False
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    if channels and module.groups != 1:
        return False
    return (
        weight is not None and not torch.nn.parameter.is_lazy(weight) and type(weight) is torch.nn.Parameter
    )


def _name(graph: Graph, node: fx.Node) -> str:
    module = graph.calls.get(node)
    if module is not None:
        return f"a {type(module).__name__}"
    return f"{getattr(node.target, '__name__', node.target)}(…)"
