"""This file says which weights a site's scale can move to: linear modules that its output feeds.

A scale passes whatever is positively homogeneous, f(s·x) = s·f(x) for s > 0, and ends at linear modules.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter

from thinned.torch import _compat
from thinned.torch._conversion import _trace
from thinned.torch._conversion._walk import foreign_hooks
from thinned.torch._site import Site

_LINEAR = (
    *(torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d),
    *(torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d),
)
_HOMOGENEOUS = (
    *(torch.nn.Identity, torch.nn.Flatten, torch.nn.Unflatten),
    *(torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.PReLU),
    *(torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d),
    *(torch.nn.AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool2d, torch.nn.AdaptiveMaxPool3d),
    *(torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d),
    *(torch.nn.AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool3d),
    *(torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d),
)
_FUNCTIONS = {
    *(torch.relu, F.relu, F.leaky_relu, torch.flatten, torch.reshape, torch.permute, torch.transpose),
    *(torch.squeeze, torch.unsqueeze, torch.mean, torch.sum),
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
}
_METHODS = {
    *("view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze"),
    *("relu", "mean", "sum", "clone"),
}
_SHAPES = {"shape", "ndim", "dtype", "device", "size", "dim"}


class StaysError(Exception):
    """Says why a site's scale cannot move."""


@dataclass(frozen=True)
class _Graph:
    nodes: list[fx.Node]
    calls: dict[fx.Node, str]  # the first name of the module that a node calls
    read: set[str]  # parameters that are used other than by their module
    inside: dict[fx.Node, set[str]]  # the modules in whose forward pass a node is


class Paths:
    """Holds what feeds what in a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._names: dict[torch.nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._names.setdefault(module, []).append(name)
        self._problem = ""
        try:
            self._graphs = [self._graph("", graph) for graph in _trace.whole(model)]
        except Exception as error:  # a model's own code may raise anything
            self._problem = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            self._graphs = [self._graph(name, graph) for name, graph in _trace.chains(model)]

    def weights_after(self, site: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        """The weights that can take a site's scale, by name.

        Raises:
            StaysError: if there are none, or not for all of its output.
        """
        name = self._names[site][0]
        graphs = self._graphs
        if self._problem:
            # The outermost chain sees the most; those inside it are parts of it.
            graphs = [graph for graph in graphs if name in graph.calls.values()][:1]
            if not graphs:
                raise StaysError(
                    f"it is in no nn.Sequential, and torch.fx cannot trace the model: {self._problem}"
                )
            self._one_name(site)
        found = {frozenset(_fed(self._model, name, graph)) for graph in graphs}
        if len(found) > 1:
            raise StaysError("training and evaluation, or optional arguments, lead from it to other places")
        return {f"{linear}.weight": self._weight(linear) for linear in sorted(found.pop())}

    def _graph(self, prefix: str, graph: fx.Graph) -> _Graph:
        full = {node: ".".join(filter(None, (prefix, str(node.target)))) for node in graph.nodes}
        calls = {n: self._names[self._model.get_submodule(full[n])][0] for n in full if n.op == "call_module"}
        inside = {
            node: {
                ".".join(filter(None, (prefix, name)))
                for name, _ in node.meta.get("nn_module_stack", {}).values()
            }
            | ({full[node]} if node.op == "call_module" else set())
            for node in graph.nodes
        }
        return _Graph(list(full), calls, {full[n] for n in full if n.op == "get_attr"}, inside)

    def _one_name(self, module: torch.nn.Module) -> None:
        names = self._names[module]
        if len(names) > 1:
            raise StaysError(
                f"{' and '.join(names)} are one module, and torch.fx cannot trace the model to see all its "
                f"calls: {self._problem}"
            )

    def _weight(self, name: str) -> torch.nn.Parameter:
        module = self._model.get_submodule(name)
        if self._problem:
            self._one_name(module)
        weight = _own_weight(module)
        if weight is None:
            raise StaysError(f"{name}.weight is computed from other parameters")
        if isinstance(weight, UninitializedParameter):
            raise StaysError(f"{name}.weight has no values yet: run the model once")
        tied = [
            f"{other}.{key}" if other else key
            for other, owner in self._model.named_modules()
            for key, value in _own_tensors(owner)
            if owner is not module and _same_memory(value, weight)
        ]
        if tied:
            raise StaysError(f"{name}.weight is shared with {', '.join(tied)}")
        return weight


def _fed(model: torch.nn.Module, site: str, graph: _Graph) -> set[str]:
    """The linear modules that a site feeds in one graph."""
    calls = [node for node, name in graph.calls.items() if name == site]
    if not calls:
        raise StaysError("no call of it is seen: it stands in a module of torch.nn, or is not used")
    ends: set[fx.Node] = set()
    passed: set[fx.Node] = set()
    for call in calls:
        between = [call]
        for node in between:
            for user in node.users:
                if _passes(model, node, user, site, graph):
                    between.append(user)
                elif user in graph.calls:
                    ends.add(user)
        passed.update(between)
        inplace = any(_is_inplace(model, node, graph) for node in between)
        if inplace and not _is_alone(model, call.all_input_nodes[0], graph):
            raise StaysError("it is in place, or something after it is, in memory that is read elsewhere too")
    fed = {graph.calls[node] for node in ends}
    if not fed:
        raise StaysError("nothing takes its output")
    _check_hooks(model, [graph.inside[node] for node in passed | ends])
    for node, name in graph.calls.items():
        if name in fed and node not in ends:
            raise StaysError(f"{name} has other inputs too")
    for name in fed:
        if f"{name}.weight" in graph.read:
            raise StaysError(f"{name}.weight is used elsewhere too")
    return fed


def _check_hooks(model: torch.nn.Module, stacks: list[set[str]]) -> None:
    """Refuse a way that enters or leaves a module with hooks: they see another scale, and may change it.

    Modules that all of the way is in have hooks before and behind it.
    """
    if _compat.global_hooks():
        raise StaysError("hooks of all modules (register_module_forward_hook) may change what passes")
    around = {name for name in stacks[0] if all(name in stack for stack in stacks)}
    for name in sorted({name for stack in stacks for name in stack} - around):
        module = model.get_submodule(name)
        if isinstance(_own_weight(module), UninitializedParameter):
            continue  # its own hook gives it values
        for hook in foreign_hooks(module):
            raise StaysError(f"{name} has a {hook}, which may change what passes: remove it first")


def _passes(model: torch.nn.Module, node: fx.Node, user: fx.Node, site: str, graph: _Graph) -> bool:
    """Tells whether the scale of `node` goes on in `user`; False where it ends well."""
    if user.op == "output":
        raise StaysError("its output is one of the model's, or of its nn.Sequential's")
    name = graph.calls.get(user)
    if name == site:
        raise StaysError("it is called again on its own output")
    if user.args[:1] == (node,):
        if _is_homogeneous(model, user, graph):
            return True
        if name is not None and _is_linear(model.get_submodule(name)):
            return False
        if user.target in _SHAPES or (user.target is getattr and user.args[1] in _SHAPES):
            return False
    what = f"{getattr(user.target, '__name__', user.target)}(…)"
    if name is not None:
        what = f"{name}, a {type(model.get_submodule(name)).__name__}"
    raise StaysError(f"it feeds {what}, which is neither a linear module nor positively homogeneous")


def _is_linear(module: torch.nn.Module) -> bool:
    return any(isinstance(module, cls) and _runs(module, cls) for cls in _LINEAR)


def _is_homogeneous(model: torch.nn.Module, node: fx.Node, graph: _Graph) -> bool:
    if node not in graph.calls:
        return node.target in (_METHODS if node.op == "call_method" else _FUNCTIONS)
    module = model.get_submodule(graph.calls[node])
    return any(
        isinstance(module, cls) and (isinstance(module, Site) or _runs(module, cls)) for cls in _HOMOGENEOUS
    )


def _runs(module: torch.nn.Module, cls: type[torch.nn.Module]) -> bool:
    """Tells whether the forward of a module is that of its class in torch.nn."""
    return type(module).forward is cls.forward and "forward" not in vars(module)


def _is_inplace(model: torch.nn.Module, node: fx.Node, graph: _Graph) -> bool:
    module = model.get_submodule(graph.calls[node]) if node in graph.calls else None
    return bool(getattr(module, "inplace", False) or node.kwargs.get("inplace", False))


def _is_alone(model: torch.nn.Module, node: fx.Node, graph: _Graph) -> bool:
    """Tells whether a value, and whatever may share its memory, has one reader."""
    if len(node.users) > 1:
        return False
    return not _is_homogeneous(model, node, graph) or _is_alone(model, node.all_input_nodes[0], graph)


def _own_weight(module: torch.nn.Module) -> torch.nn.Parameter | None:
    return dict(module.named_parameters(recurse=False)).get("weight")


def _own_tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [
        *module.named_parameters(recurse=False, remove_duplicate=False),
        *module.named_buffers(recurse=False, remove_duplicate=False),
    ]


def _same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    if isinstance(one, UninitializedParameter):
        return False
    first, second = (_compat.storage_number(tensor.untyped_storage()) for tensor in (one, other))
    return one is other or first == second
