"""A model's forward pass for one input is traced here and cut in three.

What depends on neither input nor key runs once; what depends on the input, once for each; what depends on the
key, for each input and sample. A trace reads the parameters themselves, and is never older than they are.

"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from thinned.mc.torch import _thinly
from thinned.mc.torch._vmapped import Flat
from thinned.torch import _compat
from thinned.torch._observers import masks_are_wanted

CONSTANT, INPUT, SAMPLE = range(3)

_VIEWS = {"view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "select", "slice", "alias"}
_VIEWS |= {"_unsafe_view", "detach", "unbind", "split", "as_strided", "unflatten", "flatten", "getitem"}


@dataclass(frozen=True)
class Part:
    """One of the three: its code, and the nodes of the trace that it takes and gives."""

    run: fx.GraphModule
    takes: tuple[fx.Node, ...]
    gives: tuple[fx.Node, ...]
    peak: int  # bytes alive at once, of what it computes for one input


class Program:
    """A traced forward pass, to be run for many inputs and samples at once.

    Args:
        forward: of the input's tensors, each with a batch of one, and a key (int64 of shape (2,)).
        inputs: an example.
        key: an example.
    """

    def __init__(self, forward: Callable[..., Tensor], inputs: Sequence[Tensor], key: Tensor) -> None:
        traced = _pure(forward, inputs, key)
        # What it reads where it is: weights, and other tensors wherever the model has them from.
        read = (operator.attrgetter(node.target)(traced) for node in traced.graph.find_nodes(op="get_attr"))
        self.tensors = [one for one in read if isinstance(one, Tensor)]
        nodes = [node for node in traced.graph.nodes if node.op != "output"]
        (self._result,) = _flat(next(n for n in traced.graph.nodes if n.op == "output").args)
        *self._inputs, self._key = (node for node in nodes if node.op == "placeholder")
        rank = _ranks(nodes, self._key)
        parts = [_part(traced, nodes, rank, which, self._result, self._key) for which in range(3)]
        self._constants, self._prefix, self._suffix = parts
        self.bytes_input = self._prefix.peak + sum(_size(node) for node in self._prefix.gives)
        self.bytes_sample = self._suffix.peak
        self.bytes_output = _size(self._result)
        graph = self._suffix.run.graph
        self._own = dict(zip(self._suffix.takes, graph.find_nodes(op="placeholder"), strict=True))
        differ = [own for node, own in self._own.items() if self.depends_on_input(node)]
        self._thinly = _thinly.of(graph, self._own[self._key], differ)
        self._fresh = False  # whether what depends on parameters is computed in every call
        self._each_input: Any = self._prefix_of_each
        self._each_sample: dict[bool, Any] = {
            shared: functools.partial(self._suffix_of_each, shared) for shared in (False, True)
        }

    def keep(self, places_known: bool) -> None:
        """Serve many calls, between which weights may change: see `Flat`, which makes them cheap.

        Args:
            places_known: whether weights stay where they are, so that views of them are good for all calls.
        """
        made = [node for node in self._constants.run.graph.nodes if node.op == "call_function"]
        self._fresh = not (places_known and all(map(_stays, made)))
        self._each_input = Flat(self._each_input)
        self._each_sample = {shared: Flat(one) for shared, one in self._each_sample.items()}

    @functools.cached_property
    def constants(self) -> dict[fx.Node, Tensor]:
        """Gives what depends on parameters alone."""
        return dict(zip(self._constants.gives, _call(self._constants, {}), strict=True))

    def prefix(self, inputs: Sequence[Tensor]) -> dict[fx.Node, Tensor]:
        """Gives what depends on the inputs; each of `inputs` has them in front of its batch of one."""
        if self._fresh:
            vars(self).pop("constants", None)
        values = {**self.constants, **dict(zip(self._inputs, inputs, strict=True))}
        if not self._prefix.gives:
            return values
        out = self._each_input(*(values[node] for node in self._prefix.takes))
        return {**values, **dict(zip(self._prefix.gives, out, strict=True))}

    def _prefix_of_each(self, *args: Tensor) -> Any:
        dims = tuple(0 if node in self._inputs else None for node in self._prefix.takes)
        return torch.vmap(self._prefix.run, in_dims=dims)(*args)

    def samples(self, known: dict[fx.Node, Tensor], keys: Tensor, shared: bool) -> Tensor:
        """Outputs for keys of shape (samples, inputs, 2), or (samples, 2) if inputs share them."""
        if shared and self._thinly is not None and not masks_are_wanted():
            taken = {own: known[node] for node, own in self._own.items() if node is not self._key}
            inputs = next(len(taken[own]) for own in taken if own in self._thinly.rows)
            if self._thinly.is_worth(inputs):
                return self._thinly.run(taken, keys)
        args = [keys if node is self._key else known[node] for node in self._suffix.takes]
        return self._each_sample[shared](*args)[0]  # type: ignore[no-any-return]

    def _suffix_of_each(self, shared: bool, *args: Tensor) -> Any:
        takes = self._suffix.takes
        each = tuple(_axis(node, self, shared) for node in takes)
        first = tuple(0 if node is self._key else None for node in takes)
        # Under "different" an operator of ours gives inputs that share a key one each.
        alike = "same" if shared else "different"
        over_inputs = torch.vmap(self._suffix.run, in_dims=each, randomness=alike)
        return torch.vmap(over_inputs, in_dims=first, randomness="different")(*args)

    def depends_on_input(self, node: fx.Node) -> bool:
        """Tells whether a node that the suffix takes differs from input to input."""
        return node in self._inputs or node in self._prefix.gives


def _pure(forward: Callable[..., Tensor], inputs: Sequence[Tensor], key: Tensor) -> fx.GraphModule:
    """The trace, without operators that write to what they are given.

    A second trace takes those out: the first alone can look into autograd functions.
    """
    # One mode for the shapes of all nodes: a trace makes one for each, and takes 300 ms in place of 190.
    shapes = _compat.graph_context(_compat.FakeTensorMode(allow_fallback_kernels=True))
    with _compat.graph_tracing(shapes):
        traced = make_fx(forward)(*inputs, key)
    if any(_writes(node) for node in traced.graph.nodes):
        with _compat.graph_tracing(shapes):
            traced = make_fx(torch.func.functionalize(traced))(*inputs, key)
        for node in list(traced.graph.nodes):
            if node.target is torch.ops.aten.copy.default:
                _copy_without_target(traced.graph, node)
    for node in traced.graph.find_nodes(op="call_function", target=torch.ops.aten.addmm.default):
        if not node.kwargs and _meta(node.all_input_nodes[0]).dim() == 1:
            node.target = torch.ops.thinned_mc.linear.default
    traced.graph.eliminate_dead_code()
    return traced


def _writes(node: fx.Node) -> bool:
    schema = _compat.schema_or_none(node.target)
    return schema is not None and bool(schema.is_mutable)


def _copy_without_target(graph: fx.Graph, node: fx.Node) -> None:
    """Gives what is left of `target.copy_(source)`; vmap has no rule for torch's own operator."""
    target, source = node.all_input_nodes
    like, value = _meta(target), _meta(source)
    with graph.inserting_before(node):
        found: Any = source
        if value.dtype != like.dtype:
            narrow = value.to(like.dtype)
            found = _noted(graph, _compat.to_copy.default, found, narrow, dtype=like.dtype)
        if value.shape != like.shape:
            wide = found.meta["val"].expand(like.shape)
            found = _noted(graph, torch.ops.aten.expand.default, found, wide, list(like.shape))
    node.replace_all_uses_with(found)


def _noted(graph: fx.Graph, target: Any, source: fx.Node, value: Any, *rest: Any, **options: Any) -> fx.Node:
    node = graph.call_function(target, (source, *rest), options)
    node.meta["val"] = value
    return node


def _axis(node: fx.Node, program: Program, shared: bool) -> int | None:
    if node is program._key:
        return None if shared else 0
    return 0 if program.depends_on_input(node) else None


def _call(part: Part, values: dict[fx.Node, Tensor]) -> tuple[Tensor, ...]:
    return tuple(part.run.forward(*(values[node] for node in part.takes)))


def _ranks(nodes: Iterable[fx.Node], key: fx.Node) -> dict[fx.Node, int]:
    """Gives what enters each node."""
    rank: dict[fx.Node, int] = {}
    for node in nodes:
        if node.op == "placeholder":
            rank[node] = SAMPLE if node is key else INPUT
        elif _draws(node):  # by torch's generator, which no key reaches
            rank[node] = SAMPLE
        else:
            rank[node] = max((rank[one] for one in node.all_input_nodes), default=CONSTANT)
    return rank


def _draws(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _part(
    traced: fx.GraphModule,
    nodes: list[fx.Node],
    rank: dict[fx.Node, int],
    which: int,
    result: fx.Node,
    key: fx.Node,
) -> Part:
    """The nodes of one rank as a graph of its own."""
    own = [node for node in nodes if rank[node] == which and node.op != "placeholder"]
    inside = set(own)
    takes = [node for node in nodes if node not in inside and any(user in inside for user in node.users)]
    if which == SAMPLE:
        gives = [result]
        # The key too where nothing uses it: then all samples are equal, which is for others to find.
        takes += [one for one in (result, key) if one not in inside and one not in takes]
    else:
        gives = [node for node in own if any(rank[user] > which for user in node.users if user in rank)]
        gives += [result] if result in inside and result not in gives else []
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in takes}
    for node, one in copies.items():
        one.meta = dict(node.meta)
    for node in own:
        copies[node] = graph.node_copy(node, lambda one: copies[one])
    graph.output(tuple(copies[node] for node in gives))
    return Part(fx.GraphModule(traced, graph), tuple(takes), tuple(gives), _peak(own, set(gives), rank))


def _peak(own: list[fx.Node], kept: set[fx.Node], rank: dict[fx.Node, int]) -> int:
    """Most bytes alive at once: of a node from its making to its last use, by itself or by a view of it."""
    place = {node: k for k, node in enumerate(own)}
    last = {node: len(own) if node in kept else k for k, node in enumerate(own)}
    for node in reversed(own):
        for user in node.users:
            if user in place:
                last[node] = max(last[node], last[user] if _is_view(user) else place[user])
    alive = most = 0
    ends: dict[int, int] = {}
    for k, node in enumerate(own):
        size = 0 if _is_view(node) else _size(node)
        alive += size
        ends[last[node]] = ends.get(last[node], 0) + size
        # A batching rule may copy the largest of what it takes, to bring its dimensions in order.
        taken = (one for one in node.all_input_nodes if rank[one] != CONSTANT)
        copied = max(map(_size, taken), default=0)
        most = max(most, alive + copied)
        alive -= ends.pop(k, 0)
    return most


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return True
    return str(getattr(node.target, "__name__", "")).split(".")[0] in _VIEWS


def _stays(node: fx.Node) -> bool:
    """Tells whether it is a view, or made of numbers that were written into the code."""
    return _is_view(node) or not node.all_input_nodes


def _size(node: fx.Node) -> int:
    value = _meta(node)
    parts = value if isinstance(value, (list, tuple)) else [value]
    return sum(v.numel() * v.element_size() for v in parts if isinstance(v, Tensor))


def _meta(node: fx.Node) -> Any:
    return node.meta.get("val")


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, (list, tuple)) else [value]
