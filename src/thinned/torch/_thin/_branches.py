"""Which branch ends at a site of stochastic depth, and whether its samples keep to themselves."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from thinned.torch._thin._graphs import Graph, StaysError, check_hooks, is_site
from thinned.torch._thin._pointwise import is_pointwise
from thinned.torch._thin._samples import ranks_of

# Modules that compute each sample from itself, whatever their options.
_BY_SAMPLE = (
    *(torch.nn.Linear, torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.Embedding, torch.nn.Flatten),
    *(
        torch.nn.Conv1d,
        torch.nn.Conv2d,
        torch.nn.Conv3d,
        torch.nn.PReLU,
        torch.nn.GLU,
        torch.nn.ChannelShuffle,
    ),
    *(torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d),
    *(torch.nn.PixelShuffle, torch.nn.PixelUnshuffle, torch.nn.Upsample, torch.nn.ZeroPad2d),
    *((torch.nn.RMSNorm,) if hasattr(torch.nn, "RMSNorm") else ()),
)
_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
_SHAPES = {
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "expand",
    "expand_as",
    "size",
    "dim",
    "type",
    "to",
    "float",
}
_MOVES = {"transpose", "permute", "movedim", "swapaxes", "t", "mT"}
_ALONG = {"softmax", "mean", "sum", "log_softmax", "norm", "chunk", "split", "unbind", "squeeze", "unsqueeze"}
_ALONG |= {"amax", "cat", "normalize"}
# Where a dimension stands among the arguments, and what it is if not given.
_PLACE = {"norm": 2, "normalize": 2, "chunk": 2, "split": 2}
_DEFAULT = {"normalize": 1, "chunk": 0, "split": 0, "cat": 0, "unbind": 0}
_FUNCTIONS = {operator.matmul, operator.truediv, operator.floordiv, operator.neg, operator.add, operator.mul}
_FUNCTIONS |= {torch.matmul, F.scaled_dot_product_attention, F.linear, F.layer_norm, torch.sqrt}
_FUNCTIONS |= {F.conv1d, F.conv2d, F.conv3d, F.pad, operator.sub, operator.pow, torch.rsqrt, torch.exp}
_NAMES = {"matmul", "masked_fill", "sqrt", "rsqrt", "exp", "pow", "add", "mul", "sub", "div"}
_ATTRIBUTES = {"shape", "ndim", "dtype", "device"}
_LISTS = {"chunk", "split", "unbind", "size"}  # what they give is indexed by a number


@dataclass(frozen=True)
class Branch:
    """From a branch's first module to its site; `others` of its `members` drop; of `ranks` is its input."""

    first: torch.nn.Module
    others: tuple[torch.nn.Module, ...]
    members: frozenset[torch.nn.Module]
    ranks: frozenset[int]


def branch(graph: Graph, site: torch.nn.Module) -> Branch:
    """Gives the branch that ends at a site in one graph.

    Raises:
        StaysError: if it has no single beginning, or something in it may see more than one sample.
    """
    call = graph.only_call(site)
    inside, stream = _region(call)
    entries = [node for node in inside if stream in node.all_input_nodes]
    if len(entries) != 1 or entries[0] not in graph.calls or entries[0].args[:1] != (stream,):
        raise StaysError("its branch does not begin with one module that takes the residual stream")
    first = _outermost(graph, entries[0], inside, stream)
    others = []
    moved = any(_is_moved(node) for node in inside)
    for node in inside:
        module = graph.calls.get(node)
        if module is not None and is_site(module):
            others.append(module)
        elif problem := _mixes(graph, node, moved):
            raise StaysError(problem)
    check_hooks(graph, [*inside, call])
    members = frozenset(graph.calls[node] for node in inside if node in graph.calls)
    inside.sort(key=graph.nodes.index)
    return Branch(first, tuple(others), members, ranks_of(graph, inside, stream))


def _region(call: fx.Node) -> tuple[list[fx.Node], fx.Node]:
    """Gives what only the site uses, and the one value from outside that it is computed from."""
    inside: list[fx.Node] = []
    members = {call}
    changed = True
    while changed:
        changed = False
        for node in [one for member in list(members) for one in member.all_input_nodes]:
            inner = node not in members and node.op not in ("placeholder", "get_attr")
            if inner and all(user in members for user in node.users):
                members.add(node)
                inside.append(node)
                changed = True
    outside = {
        one
        for member in members
        for one in member.all_input_nodes
        if one not in members and one.op != "get_attr"
    }
    if len(outside) != 1 or not inside:
        raise StaysError(
            f"its branch is computed from {len(outside)} values, not from the residual stream alone"
        )
    return inside, outside.pop()


def _outermost(graph: Graph, entry: fx.Node, inside: list[fx.Node], stream: fx.Node) -> torch.nn.Module:
    """Gives the module whose call begins the branch."""
    module = graph.calls[entry]
    if is_site(module):
        raise StaysError("its branch begins with a site")
    if len(graph.calls_of(module)) > 1:
        raise StaysError(f"{type(module).__name__}, with which its branch begins, is called more than once")
    return module


def _mixes(graph: Graph, node: fx.Node, moved: bool) -> str | None:
    """Tells why a node may compute a sample from others, or move samples where they are not followed."""
    module = graph.calls.get(node)
    name = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
    if module is not None:
        if type(module) in _BY_SAMPLE or is_pointwise(graph, node, True):
            return None
        if type(module) in _NORMS:
            return f"{name} in its branch takes its statistics from all samples"
        if isinstance(module, torch.nn.MultiheadAttention) and module.batch_first and not module.dropout:
            return None
        return f"{name} in its branch is not known to compute each sample from itself"
    if node.op == "get_attr" or is_pointwise(graph, node, True):
        return None
    if node.target is getattr and node.args[1] in _ATTRIBUTES:
        return None
    if _is_batch_size(node) and any(user in graph.inside and not _takes_sizes(user) for user in node.users):
        return "the number of samples is a value in its branch"
    if node.target is operator.getitem:
        return None if _is_plain_index(graph, node) else "an index in its branch may choose samples"
    if name == "flatten":
        start = node.kwargs.get("start_dim", (*node.args, 0)[1])
        return None if start else "flatten(…) in its branch makes one row of all samples"
    if node.target in _FUNCTIONS or name in _NAMES or name in _SHAPES:
        return None
    if name in _MOVES:
        return None if _keeps_batch_in_front(node) else f"{name}(…) in its branch moves the batch to the end"
    if name in _ALONG:
        return None if _is_along_others(node, moved) else f"{name}(…) in its branch may run along the batch"
    return f"{name}(…) in its branch is not known to compute each sample from itself"


def _is_batch_size(node: fx.Node) -> bool:
    """Tells whether a node is the size of the first dimension."""
    if node.target == "size":
        return node.args[1:] == (0,)
    return bool(node.target is operator.getitem and node.args[1] == 0 and _is_shape(node.args[0]))


def _is_shape(node: Any) -> bool:
    if node.target is getattr:
        return str(node.args[1]) == "shape"
    return node.target == "size" and len(node.args) == 1 and not node.kwargs


def _takes_sizes(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", str(node.target))
    return name in ("view", "reshape", "expand", "unflatten")


def _is_moved(node: Any) -> bool:
    """Tells whether a node brings another dimension to the front, as the three of query, key and value."""
    name = getattr(node.target, "__name__", str(node.target))
    return name == "permute" and _dims(node)[:1] != (0,)


def _is_plain_index(graph: Graph, node: fx.Node) -> bool:
    """Tells whether an index chooses no samples."""
    index, source = node.args[1], node.args[0]
    if not isinstance(source, fx.Node):
        return False
    if isinstance(index, int):
        name = getattr(source.target, "__name__", str(source.target))
        if isinstance(graph.calls.get(source), torch.nn.MultiheadAttention):
            return True  # its output, or its weights
        return name in _LISTS or (source.target is getattr and source.args[1] == "shape") or _is_moved(source)
    if not isinstance(index, tuple):
        return index == slice(None)
    given: Any = index[0]
    last = len(index) == 2 and given is Ellipsis and isinstance(index[1], (int, slice))
    return last or index[:1] == (slice(None),)


def _dims(node: fx.Node) -> tuple[Any, ...]:
    given: Any = node.args[1:]
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else tuple(given)


def _keeps_batch_in_front(node: fx.Node) -> bool:
    """Tells whether the first dimension ends in none of the last two."""
    dims = _dims(node)
    if not all(isinstance(one, int) for one in dims):
        return False
    if len(dims) == 2:  # two of them change places
        return 0 not in dims and all(one > 0 or one >= -2 for one in dims)
    return 0 in dims and 0 not in dims[-2:]


def _is_along_others(node: fx.Node, moved: bool) -> bool:
    """Tells whether a function with a dimension is told one, which is not the batch's."""
    name = getattr(node.target, "__name__", str(node.target))
    given = (*node.args[_PLACE.get(name, 1) :], _DEFAULT.get(name))[0]
    dims: Any = node.kwargs.get("dim", node.kwargs.get("axis", given))
    if name == "unbind" and dims == 0:
        source = node.args[0]
        return isinstance(source, fx.Node) and _is_moved(source)
    each = dims if isinstance(dims, (tuple, list)) else (dims,)
    return bool(each) and all(isinstance(one, int) and (one == -1 or (one > 0 and not moved)) for one in each)
