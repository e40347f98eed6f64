"""Which modules around a site can compute, or read, what it keeps alone: read from a graph."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from thinned.torch._thin._graphs import Graph, StaysError, check_hooks, is_site
from thinned.torch._thin._pointwise import is_pointwise, keeps_scale, pools_others, runs

_LINEAR = (torch.nn.Linear,)
_CONVS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
_DRAWS = (torch.nn.RNNBase, torch.nn.MultiheadAttention, torch.nn.RReLU)


@dataclass(frozen=True)
class Chain:
    """These are the modules around a site, as in `Link`; `members` are they and what is between."""

    sources: tuple[torch.nn.Module, ...]
    sinks: tuple[torch.nn.Module, ...]
    norms: tuple[torch.nn.Module, ...]
    members: tuple[torch.nn.Module, ...] = ()


class _Seen(Exception):
    """It says why modules before a site do not thin: the site then takes what it keeps out of its input."""


def chain(graph: Graph, site: torch.nn.Module, axes: int, groups: int) -> Chain:
    """Gives the modules that a site's decision reaches in one graph.

    Args:
        graph: of the model, or of a part.
        site: a layer that it calls.
        axes: of a channel; 0 for units.
        groups: of the batch.

    Raises:
        StaysError: if nothing behind it can read what it keeps alone.
    """
    call = graph.only_call(site)
    before: list[fx.Node] = []
    behind, sinks = _behind(graph, call, axes)
    check_hooks(graph, [call, *behind])
    try:
        before, sources, norms = _before(graph, call, axes)
        values = {node.args[:1] for node in sources}
        if groups > 1 and len(values) > 1:  # one may be broadcast, and has rows of no group
            raise _Seen
        if len(before) > 2 and any(_is_in_place(graph, node) for node in behind):
            raise _Seen  # the site's copy keeps what functions before it save for their gradients
        maps = tuple(graph.calls[node] for node in sources)
        if {_width(one) for one in maps} != {sinks[0].weight.shape[1]}:  # type: ignore[index]
            raise _Seen
        check_hooks(graph, [*before, call, *behind])
    except (_Seen, StaysError):
        maps, norms, before = (), (), []
    return Chain(maps, tuple(dict.fromkeys(sinks)), norms, graph.modules([*before, call, *behind]))


def _behind(graph: Graph, call: fx.Node, axes: int) -> tuple[list[fx.Node], list[torch.nn.Module]]:
    nodes, sinks, way = [], [], [call]
    for node in way:
        if not node.users:
            raise StaysError("nothing takes its output")
        for user in node.users:
            module = graph.calls.get(user)
            if user.op == "output":
                raise StaysError("its output is one of the model's, or of the part that could be traced")
            if (
                user.args[:1] == (node,)
                and not pools_others(graph, user, axes)
                and keeps_scale(graph, user, axes > 0)
            ):
                way.append(user)
            elif module is not None and user.args == (node,) and not user.kwargs and is_map(module, axes):
                once(graph, module)
                sinks.append(module)
            else:
                raise StaysError(f"it feeds {name_of(graph, user)}, which does not read units one by one")
            nodes.append(user)
    if len({sink.weight.shape[1] for sink in sinks}) > 1:  # type: ignore[index]
        raise StaysError("the maps behind it read different numbers of units")
    return nodes, sinks


def _before(graph: Graph, call: fx.Node, axes: int) -> tuple[Any, ...]:
    inside: list[fx.Node] = [call]
    sources: list[fx.Node] = []
    norms: list[torch.nn.Module] = []
    for node in inside:
        for one in [] if node in sources else node.all_input_nodes:
            module = graph.calls.get(one)
            if one in inside:
                continue
            if module is not None and (is_map(module, axes) or (not axes and _is_table(module))):
                once(graph, module)
                sources.append(one)
            elif module is not None and axes and runs(module, _NORMS) and module.track_running_stats:
                once(graph, module)
                norms.append(module)
            elif not is_pointwise(graph, one, axes > 0) or pools_others(graph, one, axes):
                raise _Seen
            inside.append(one)
    region = set(inside)
    if any(user not in region for node in inside if node is not call for user in node.users):
        raise _Seen
    sources.sort(key=graph.nodes.index)
    if not sources or draws_between(graph, sources[0], call):
        raise _Seen
    return inside, sources, tuple(norms)


def draws_between(graph: Graph, first: fx.Node, last: fx.Node, but: Collection[fx.Node] = ()) -> bool:
    """Tells whether something else may draw between them: the order of draws would be another."""
    begin, end = graph.nodes.index(first) + 1, graph.nodes.index(last)
    between = (graph.calls.get(node) for node in graph.nodes[begin:end] if node not in but)
    return any(module is not None and (is_site(module) or isinstance(module, _DRAWS)) for module in between)


def once(graph: Graph, module: torch.nn.Module) -> None:
    if len(graph.calls_of(module)) > 1:
        raise StaysError(f"{type(module).__name__} next to it is called more than once in a forward pass")


def _is_in_place(graph: Graph, node: fx.Node) -> bool:
    module: Any = graph.calls.get(node)
    return bool(getattr(module, "inplace", node.kwargs.get("inplace", True in node.args[1:])))


def is_map(module: torch.nn.Module, axes: int) -> bool:
    """Tells whether a module is a linear map of units, with a weight that it holds itself."""
    if not runs(module, (_CONVS[axes - 1],) if axes else _LINEAR):
        return False
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    if axes and module.groups != 1:
        return False
    return (
        weight is not None and not torch.nn.parameter.is_lazy(weight) and type(weight) is torch.nn.Parameter
    )


def _is_table(module: torch.nn.Module) -> bool:
    """Tells whether a module looks up rows, whose columns are units."""
    if not runs(module, (torch.nn.Embedding,)):
        return False
    table: Any = module
    return table.max_norm is None and not table.sparse and type(table.weight) is torch.nn.Parameter


def _width(source: Any) -> int:
    """Tells how many units a module gives."""
    return int(source.weight.shape[isinstance(source, torch.nn.Embedding)])


def name_of(graph: Graph, node: fx.Node) -> str:
    module = graph.calls.get(node)
    if module is not None:
        return f"a {type(module).__name__}"
    return f"{getattr(node.target, '__name__', node.target)}(…)"
