"""A model's graphs, of the whole or of the parts that can be traced, and what stands at a node."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from thinned.torch import _compat
from thinned.torch._conversion import _trace
from thinned.torch._conversion._walk import foreign_hooks
from thinned.torch._site import Site


class StaysError(Exception):
    """It says why a site stays masked."""


@dataclass(frozen=True)
class Graph:
    """One traced forward pass.

    Attributes:
        nodes: in the order in which they run.
        calls: the module that a node calls.
        inside: the modules in whose forward pass a node is.
        root: the module that was traced.
    """

    nodes: tuple[fx.Node, ...]
    calls: dict[fx.Node, torch.nn.Module]
    inside: dict[fx.Node, frozenset[torch.nn.Module]]
    root: torch.nn.Module

    def calls_of(self, module: torch.nn.Module) -> list[fx.Node]:
        """Tells where a module is called."""
        return [node for node, called in self.calls.items() if called is module]

    def modules(self, nodes: Iterable[fx.Node]) -> tuple[torch.nn.Module, ...]:
        """Gives the modules that nodes call, each once."""
        return tuple(dict.fromkeys(self.calls[node] for node in nodes if node in self.calls))

    def only_call(self, site: torch.nn.Module) -> fx.Node:
        """Tells where a site is called, with a tensor alone.

        Raises:
            StaysError: if it is called more than once, or with more.
        """
        calls = self.calls_of(site)
        if len(calls) != 1:
            raise StaysError(f"it is called {len(calls)} times in a forward pass, and has one decision")
        call = calls[0]
        if len(call.args) != 1 or call.kwargs or not isinstance(call.args[0], fx.Node):
            raise StaysError("it is called with more than a tensor")
        return call


@dataclass
class Graphs:
    """A model's graphs; `problems`: why a part could not be traced, by its name."""

    parts: list[tuple[Graph, ...]]
    problems: dict[str, str]

    def of(self, site: torch.nn.Module) -> tuple[Graph, ...]:
        """Gives those in which a site is called.

        Raises:
            StaysError: if there are none.
        """
        for graphs in self.parts:
            if any(graph.calls_of(site) for graph in graphs):
                return graphs
        why = next(iter(self.problems.values()), "")
        raise StaysError(
            f"torch.fx cannot trace the module that calls it: {why}"
            if why
            else "no call of it is seen: it stands in a module of torch.nn, or is not used"
        )


def graphs(model: torch.nn.Module) -> Graphs:
    """Gives the graphs of a model: of the whole, or else of the largest parts of it that can be traced."""
    found = Graphs([], {})
    for module, traced in _parts(model, "", found.problems):
        different = {_code(graph): graph for graph in reversed(traced)}
        found.parts.append(tuple(_read(module, graph) for graph in reversed(different.values())))
    return found


def _code(graph: fx.Graph) -> tuple[Any, ...]:
    """Gives what tells graphs apart: training and evaluation mostly have the same."""
    return tuple((node.op, node.target, repr(node.args), repr(node.kwargs)) for node in graph.nodes)


def _parts(
    module: torch.nn.Module, name: str, problems: dict[str, str]
) -> Iterator[tuple[torch.nn.Module, list[fx.Graph]]]:
    if not any(is_site(one) for one in module.modules()):
        return
    if not is_site(module):
        try:
            traced = _trace.whole(module)
        except Exception as error:  # a model's own code may raise anything
            text = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            problems[name] = f"{name or 'the model'}: {text}"
        else:
            yield module, traced
            return
    for child, inner in module.named_children():
        yield from _parts(inner, f"{name}.{child}" if name else child, problems)


def is_site(module: torch.nn.Module) -> bool:
    """Tells whether a module is one that drops, ours or torch.nn's."""
    return isinstance(module, (Site, _compat.DROPOUTS))


def drops(site: Any) -> bool:
    """Tells whether a site drops in training."""
    return site._drops() if isinstance(site, Site) else site.p > 0


def _read(root: torch.nn.Module, graph: fx.Graph) -> Graph:
    for node in reversed(graph.nodes):  # as of weights that attention gives and nobody reads
        if node.target is operator.getitem and not node.users:
            graph.erase_node(node)
    calls = {n: root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"}
    inside = {}
    for node in graph.nodes:
        names = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
        names += [str(node.target)] if node.op == "call_module" else []
        inside[node] = frozenset(root.get_submodule(name) for name in names)
    return Graph(tuple(graph.nodes), calls, inside, root)


def check_hooks(graph: Graph, nodes: list[fx.Node]) -> None:
    """Refuse a way that enters or leaves a module with hooks, which would see thinned tensors.

    Raises:
        StaysError: naming the hook.
    """
    if _compat.global_hooks():
        raise StaysError("hooks of all modules (register_module_forward_hook) would see thinned tensors")
    stacks = [graph.inside[node] for node in nodes]
    around = frozenset.intersection(*stacks)
    for module in set().union(*stacks) - around:
        for hook in foreign_hooks(module):
            raise StaysError(
                f"{type(module).__name__} on its way has a {hook}: it would see thinned tensors; "
                "remove it first"
            )
