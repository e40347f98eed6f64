"""Samples that all inputs share are computed here as smaller networks, one for each.

Where a mask has one decision for a unit, the maps in front and behind need what it keeps alone. `of` reads
the traced forward pass of one input for that, and `Thinly` runs it for all inputs at once, map by map, of
all samples while a weight is in the processor's cache. Only what computes each input from itself is run so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from thinned import _kernel
from thinned.mc.torch import _many, _maps
from thinned.mc.torch._many import Many, Value
from thinned.mc.torch._maps import MAPS, Kept, operands
from thinned.torch import _compat

_aten, _ours = torch.ops.aten, torch.ops.thinned
# Of one tensor, element by element.
_ELEMENTS = {
    *(_aten.relu.default, _aten.gelu.default, _aten.silu.default, _aten.tanh.default, _aten.sigmoid.default),
    *(_aten.leaky_relu.default, _aten.elu.default, _aten.hardtanh.default, _aten.softplus.default),
    *(_aten.hardswish.default, _aten.hardsigmoid.default, _aten.mish.default, _aten.detach.default),
}
_SCALING = {_aten.relu.default, _aten.leaky_relu.default, _aten.detach.default}  # f(s · x) = s · f(x)
_PAIRS = {_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor}
_ALONG = {_compat.softmax.default, _compat.log_softmax.default}
_VIEWS = {_aten.view.default}
# Rows of a product from which on a part of it is worth a gather of its weight, and multiplications of a map
# from which on the 50 µs of a call for each sample are not most of what it takes.
_ROWS, _PRODUCTS = 64, 1 << 22
# The same where the kernel multiplies, by all samples in one call and by weights that stay where they are.
# The dropout paper's network, 100 samples, against masks: 8 inputs 1.28 times as long, 16 0.64, 32 0.43;
# three maps of 256 units with 16 inputs 0.90, of 128 units with 16 inputs 1.12 and with 64 0.63.
_FEW_ROWS, _FEW_PRODUCTS = 16, 1 << 19


@dataclass(frozen=True)
class _Site:
    """A mask for all inputs: its shape, and the maps of which it needs a part, if there are any."""

    shape: tuple[int, ...]
    source: fx.Node | None
    sinks: tuple[fx.Node, ...]
    positions: int  # of a map, for each input
    weights: int  # of the largest of them
    multiplies: bool  # whether they are the kernel's

    def is_worth(self, inputs: int) -> bool:
        rows, few = inputs * self.positions, self.multiplies and _kernel.multiplies()
        least, products = (_FEW_ROWS, _FEW_PRODUCTS) if few else (_ROWS, _PRODUCTS)
        return bool(self.sinks) and rows >= least and rows * self.weights >= products


class Thinly:
    """Computes the part of a trace that depends on the key, for inputs that share masks: see `of`."""

    def __init__(self, result: fx.Node, key: fx.Node) -> None:
        self.result, self.key = result, key
        self.rows: set[fx.Node] = set()  # what differs from input to input
        self.keyed: dict[Any, None] = {}  # what depends on the key alone
        self.walk: list[Any] = []
        self.sites: dict[Any, _Site] = {}
        self.rectified: dict[Any, Any] = {}  # maps that nothing but a ReLU reads, and that
        self.last: dict[Any, list[Any]] = {}  # what a node of the walk is the last to read

    def is_worth(self, inputs: int) -> bool:
        """Tells whether smaller networks take less time than the whole one for all samples at once."""
        return any(site.is_worth(inputs) for site in self.sites.values())

    def run(self, known: dict[Any, Tensor], keys: Tensor) -> Tensor:
        """Outputs for keys of shape (samples, 2), with the inputs behind the samples.

        Args:
            known: of the placeholders, those of inputs with the inputs in front of a batch of one.
            keys: of the samples.
        """
        values = {node: one.squeeze(1) if node in self.rows else one for node, one in known.items()}
        inputs = next(len(values[node]) for node in values if node in self.rows)
        values[self.key] = keys
        for node in self.keyed:
            values[node] = node.target(*_filled(node.args, values))
        masks, kept = self._drawn(values, keys, inputs)
        reads = {sink: node for node in kept for sink in self.sites[node].sinks}
        writes = {self.sites[node].source: node for node in kept if self.sites[node].source is not None}
        now: dict[Any, Value] = dict(values)
        for node in self.walk:  # of all samples, while a weight is in the processor's cache
            x: Any = now.get(node.args[0])
            if node in kept:
                now[node] = x  # what is dropped is not computed, or not read
            elif node in masks:
                now[node] = _many.masked(x, masks[node])
            elif node.target in MAPS:
                out, inward = kept.get(writes.get(node)), kept.get(reads.get(node))
                now[node] = _maps.mapped(node, now, out, inward, len(keys), node in self.rectified)
            elif self.rectified.get(node.args[0]) is node:
                now[node] = x  # done by the map, before it left the cache
            else:
                now[node] = _other(node, now, inputs, len(keys))
            for read in self.last.get(node, ()):
                del now[read]
        result = now[self.result]
        result = result.together() if isinstance(result, Many) else result.expand(len(keys), *result.shape)
        return result.unsqueeze(2)

    def _drawn(
        self, values: dict[Any, Tensor], keys: Tensor, inputs: int
    ) -> tuple[dict[Any, Tensor], dict[Any, Kept]]:
        """Returns each site's factors in each sample, and what it keeps where a part is to be computed."""
        masks: dict[Any, Tensor] = {}
        kept: dict[Any, Kept] = {}
        for node, site in self.sites.items():
            own, (p, *rest) = values[node.args[1]], _filled(node.args[2:4], values)
            if site.is_worth(inputs):
                inverted = rest[0] if rest else True
                made = Kept(own, p.item(), inverted, site.shape[1], site.source is not None)
                if len(site.shape) == 2 or all(made.counts):  # a convolution has a channel at least
                    kept[node] = made
                    continue
            ones = torch.ones(len(keys), *site.shape, dtype=_meta(node).dtype, device="cpu")
            masks[node] = node.target(ones, own, p, *rest)
        return masks, kept


def of(graph: fx.Graph, key: fx.Node, by_input: Iterable[fx.Node]) -> Thinly | None:
    """A part of a trace, to be run sample by sample; None where it may not, or nothing would be spared.

    Args:
        graph: of the part, for one input with a batch of one in front.
        key: the placeholder of the key.
        by_input: placeholders that differ from input to input.
    """
    (result,) = next(iter(graph.find_nodes(op="output"))).args[0]
    found = Thinly(result, key)
    found.rows.update(by_input)
    if not found.rows or not all(map(_is_row, found.rows)):
        return None
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.target is _ours.fold.default and not found.rows.intersection(node.all_input_nodes):
            found.keyed[node] = None
        elif _is_row(node) and _is_apart(node, found):
            found.rows.add(node)
            found.walk.append(node)
        else:
            return None
    found.sites = {node: _site(node) for node in found.walk if node.target is _ours.dropout.default}
    readers = {node: list(node.users) for node in found.walk if node.target in MAPS}
    found.rectified = {
        node: one[0] for node, one in readers.items() if len(one) == 1 and one[0].target is _aten.relu.default
    }
    found.last = _last(found)
    worth = any(site.sinks for site in found.sites.values())
    return found if worth and result in found.rows else None


def _last(found: Thinly) -> dict[Any, list[Any]]:
    """What is not needed any more behind each node."""
    walked = set(found.walk)
    last = {one: node for node in found.walk for one in node.all_input_nodes if one in walked}
    last.pop(found.result, None)
    behind: dict[Any, list[Any]] = {}
    for one, node in last.items():
        behind.setdefault(node, []).append(one)
    return behind


def _is_row(node: fx.Node) -> bool:
    """Tells whether a node has the input's batch of one in front, where all inputs can stand."""
    value = _meta(node)
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != 1:
        return False
    return value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)


def _is_apart(node: Any, found: Thinly) -> bool:
    """Tells whether a node computes each input from itself."""
    target, args = node.target, node.args
    rows = [one for one in node.all_input_nodes if one in found.rows]
    alone = rows == [args[0]] if args else False
    if target is _ours.dropout.default:
        known = args[1] in found.keyed or args[1] is found.key
        p: Any = args[2]
        return alone and known and not node.kwargs and len(args) <= 5 and _meta(p).numel() == 1
    if found.key in node.all_input_nodes or any(one in found.keyed for one in node.all_input_nodes):
        return False
    if target in MAPS:
        return rows == [operands(node)[1]] and not node.kwargs and _maps.is_plain(node)
    if target in _ELEMENTS:
        return alone and node.all_input_nodes == rows
    if target in _ALONG:
        return alone and args[1] % _meta(node).dim() != 0
    if target in _VIEWS:
        return alone and args[1][0] == 1
    if target in _PAIRS:
        others = [_meta(one) for one in node.all_input_nodes if one not in found.rows]
        rank = _meta(node).dim()
        same = all(_meta(one).dim() == rank for one in rows)
        return same and all(one.dim() < rank or one.shape[0] == 1 for one in others)
    return False


def _site(node: fx.Node) -> _Site:
    sizes = tuple(_meta(node.args[0]).shape)
    noise: Any = node.args[4] if len(node.args) > 4 else None
    shape = tuple(1 if noise is not None and noise[k] == 1 else size for k, size in enumerate(sizes))
    sinks = _sinks(node) if math.prod(shape) == shape[1] else ()
    source = _source(node) if sinks else None
    positions = math.prod(_meta(sinks[0]).shape[2:]) if sinks else 1
    maps = [(one, *map(_meta, operands(one))) for one in (source, *sinks) if one is not None]
    weights = max((math.prod(weight.shape) for *_, weight in maps), default=0)
    return _Site(shape, source, sinks, positions, weights, all(_maps.suits(*one) for one in maps))


def _sinks(site: fx.Node) -> tuple[fx.Node, ...]:
    """The maps that read a site; none where something else does."""
    found: list[Any] = []
    way: list[Any] = [site]
    for node in way:
        for user in node.users:
            if user.target in _SCALING:
                way.append(user)
            elif user.target in MAPS and operands(user)[1] is node:
                found.append(user)
            else:
                return ()
    return tuple(found)


def _source(site: fx.Node) -> Any:
    """The map whose units a site's are, if nothing else reads them."""
    node: Any = site.args[0]
    while len(node.users) == 1:
        if node.target in MAPS:
            return node
        if node.target not in _ELEMENTS:
            return None
        node = node.args[0]
    return None


def _other(node: Any, now: dict[Any, Value], inputs: int, samples: int) -> Value:
    """A function of what differs from input to input, and of what does not."""
    asked = [one for one in node.all_input_nodes if isinstance(now[one], Many)]
    view = node.target in _VIEWS
    rest = [inputs, *node.args[1][1:]] if view else None

    def call(values: dict[Any, Tensor]) -> Tensor:
        args = _filled(node.args, {**now, **values})  # type: ignore[dict-item]
        result: Tensor = node.target(*((args[0], rest) if view else args), **node.kwargs)
        return result

    if not asked:
        return call({})
    x: Any = now[asked[0]]
    if view or node.target in _ELEMENTS:
        apply = x.viewed if view else x.by_element
        return apply(lambda one: call({asked[0]: one}))  # type: ignore[no-any-return]
    return Many([call({one: _many.of(now[one], k) for one in asked}) for k in range(samples)])


def _filled(args: Any, values: dict[Any, Tensor]) -> tuple[Any, ...]:
    return tuple(values[one] if isinstance(one, fx.Node) else one for one in args)


def _meta(node: Any) -> Any:
    return None if node is None else node.meta.get("val")
