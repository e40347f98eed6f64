"""Which maps around a site of heads have a head's rows and columns: read from a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from thinned.torch._thin._chains import draws_between, is_map, name_of, once
from thinned.torch._thin._few_heads import FUNCTION
from thinned.torch._thin._graphs import Graph, StaysError, check_hooks, drops, is_site
from thinned.torch._thin._head_trial import Trial

_SHAPES = {
    "view",
    "reshape",
    "transpose",
    "permute",
    "contiguous",
    "flatten",
    "clone",
    "to",
    "type_as",
    "type",
}
_SHAPES |= {"swapaxes", "swapdims", "movedim", "unflatten", "squeeze", "unsqueeze"}
_SIZES = {"size", "dim", "numel", "new_zeros", "new_ones"}
_BETWEEN = (
    *(torch.nn.Identity, torch.nn.LayerNorm, torch.nn.Softmax, torch.nn.GELU),
    *(torch.nn.SiLU, torch.nn.ReLU, torch.nn.Sigmoid, torch.nn.Tanh),
    *((torch.nn.RMSNorm,) if hasattr(torch.nn, "RMSNorm") else ()),
)


@dataclass(frozen=True)
class Heads:
    """These are the maps around a site of heads; `why` those before it compute all heads, where they do.

    Attributes:
        layouts: of each source's rows: parts that have all heads, and rows of a head in one.
        heads: how many there are.
        members: these maps, and what is between.
    """

    sources: tuple[torch.nn.Module, ...]
    sinks: tuple[torch.nn.Module, ...]
    layouts: tuple[tuple[int, int], ...]
    heads: int
    why: str = ""
    members: tuple[torch.nn.Module, ...] = ()


def heads(graph: Graph, site: Any, groups: int) -> Heads:
    """Gives what a decision for each head reaches in one graph.

    Raises:
        StaysError: if nothing behind the site reads each head by itself.
    """
    call = graph.only_call(site)
    behind, sinks = _behind(graph, call)
    check_hooks(graph, [call, *behind])
    _check_functions([call, *behind])
    region, sources = _region(graph, call)
    if not sources:
        raise StaysError("no Linear is seen that its heads are computed by")
    trial = Trial(graph, site, call, region, sources, groups)
    try:
        _check_before(graph, call, region, sources)
        layouts, count = trial.before()
        why = ""
    except StaysError as error:
        layouts, count, why, sources, region = (), 0, str(error), [], []
    trial.behind(behind, sinks)
    maps = tuple(graph.calls[node] for node in sources)
    members = graph.modules([*sources, *region, call, *behind])
    return Heads(maps, graph.modules(sinks), layouts, count, why, members)


def _behind(graph: Graph, call: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    nodes, sinks, way = [], [], [call]
    for node in way:
        if not node.users:
            raise StaysError("nothing takes its output")
        for user in node.users:
            module = graph.calls.get(user)
            if user.op == "output":
                raise StaysError("its output is one of the model's, or of the part that could be traced")
            if _asks_for_size(user):
                continue
            if module is not None and user.args == (node,) and not user.kwargs and is_map(module, 0):
                once(graph, module)
                sinks.append(user)
            elif isinstance(module, torch.nn.Identity) or _name(user) in _SHAPES:
                way.append(user)
            else:
                raise StaysError(f"it feeds {name_of(graph, user)}, which does not read heads one by one")
            nodes.append(user)
    return nodes, sinks


def _region(graph: Graph, call: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """Gives what lies between Linear modules and the site, and these modules' calls."""
    seen: set[fx.Node] = set()
    sources: set[fx.Node] = set()
    way = list(call.all_input_nodes)
    for node in way:
        if node in seen or node.op in ("placeholder", "get_attr") or _asks_for_size(node):
            continue
        module = graph.calls.get(node)
        if module is not None and is_map(module, 0):
            sources.add(node)
        elif module is None or isinstance(module, _BETWEEN) or is_site(module):
            seen.add(node)
            way += node.all_input_nodes
    inside: list[fx.Node] = []
    known = set(sources)
    for node in graph.nodes:
        if node in seen and known.intersection(node.all_input_nodes):
            known.add(node)
            inside.append(node)
    return inside, [node for node in graph.nodes if node in sources]


def _check_before(graph: Graph, call: fx.Node, region: list[fx.Node], sources: list[fx.Node]) -> None:
    """Refuse maps whose rows something else reads, or has to draw after."""
    for node in sources:
        once(graph, graph.calls[node])
    members = {*region, call}
    for node in (*sources, *region):
        for user in node.users:
            if user not in members and not _asks_for_size(user):
                raise StaysError(f"{name_of(graph, user)} reads what its heads are computed from")
    for node in region:
        module = graph.calls.get(node)
        if module is not None and is_site(module) and drops(module):
            raise StaysError(f"{name_of(graph, node)} drops single elements of all heads: set its p to 0")
    if draws_between(graph, sources[0], call, members):
        raise StaysError("another site draws between")
    check_hooks(graph, [*sources, *region, call])
    _check_functions([*sources, *region, call])


def _check_functions(nodes: list[fx.Node]) -> None:
    """Refuse a way that enters or leaves an autograd function."""
    if len({node.meta.get("in_function") for node in nodes}) > 1:
        raise StaysError(f"on its way is {FUNCTION}")


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op.startswith("call_") else ""


def _asks_for_size(node: fx.Node) -> bool:
    """Tells whether a node reads a tensor's size, or its kind."""
    if node.op == "call_function" and _name(node) == "getattr":
        return str(node.args[1]) in ("shape", "ndim", "dtype", "device")
    return node.op == "call_method" and node.target in _SIZES
