"""Samples that all inputs share, as what they are: one smaller network for each.

Where a mask has one decision for a unit, the maps in front and behind need what it keeps alone. `of` reads
the traced forward pass of one input for that, and `Thinly` runs it for all inputs at once, sample by sample,
so that a weight is gathered once for all of them. Only what computes each input from itself is run so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from thinned.mc.torch import _linear  # noqa: F401 (defines an operator)
from thinned.torch import _compat
from thinned.torch._thin._submatrix import gathered_many, take

_aten, _ours = torch.ops.aten, torch.ops.thinned
_LINEAR = {torch.ops.thinned_mc.linear.default, _aten.addmm.default, _aten.mm.default}
_MAPS = {*_LINEAR, _aten.convolution.default}
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
# Rows of a product from which on a part of it is worth a gather of its weight. The dropout paper's network,
# 100 samples, against all of them in one product: 64 inputs 0.86 times as long, 256 0.59.
_ROWS = 64
# Multiplications of a map from which on the 50 µs of a call for each sample are not most of what it takes.
_PRODUCTS = 1 << 22
# Samples for which a weight is read once: 8 parts of 1 MiB stay in a cache until they are multiplied by.
_TOGETHER = 8


@dataclass(frozen=True)
class _Site:
    """A mask for all inputs: its shape, and the maps of which it needs a part, if there are any."""

    shape: tuple[int, ...]
    source: fx.Node | None
    sinks: tuple[fx.Node, ...]
    positions: int  # of a map, for each input
    weights: int  # of one that reads it

    def is_worth(self, inputs: int) -> bool:
        rows = inputs * self.positions
        return bool(self.sinks) and rows >= _ROWS and rows * self.weights >= _PRODUCTS


class _Kept:
    """What the samples keep of a site's units: numbers for each, and what they are multiplied by."""

    def __init__(self, values: Tensor) -> None:
        rows = values.flatten(1)
        kept = rows != 0
        self.parts: tuple[Tensor, ...] = kept.nonzero()[:, 1].split(kept.sum(1).tolist())
        self.scale = float(rows.max()) if rows.numel() else 1.0


class Thinly:
    """What of a trace depends on the key, for inputs that share each sample's masks: see `of`."""

    def __init__(self, result: fx.Node, key: fx.Node) -> None:
        self.result, self.key = result, key
        self.rows: set[fx.Node] = set()  # what differs from input to input
        self.keyed: dict[Any, None] = {}  # what depends on the key alone
        self.walk: list[Any] = []
        self.sites: dict[Any, _Site] = {}

    def is_worth(self, inputs: int) -> bool:
        """Whether smaller networks take less time than the whole one for all samples at once."""
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
        drawn = []
        for begin in range(0, len(keys), _TOGETHER):
            some = range(begin, min(begin + _TOGETHER, len(keys)))
            # Of what differs from sample to sample, a value for each of some samples.
            each: list[dict[Any, Tensor]] = [dict(values) for _ in some]
            for node in self.walk:
                if node in kept and self.sites[node].source is None:
                    made = _inputs(node, kept[node], each, some)
                elif node in kept:
                    made = [one[node.args[0]] for one in each]
                elif node in masks:
                    pairs = [(one[node.args[0]], masks[node][k]) for one, k in zip(each, some, strict=True)]
                    made = [(x * factor).masked_fill_(factor == 0, 0) for x, factor in pairs]
                elif node.target in _MAPS:
                    made = _maps(node, each, kept.get(writes.get(node)), kept.get(reads.get(node)), some)
                else:
                    made = [_each(node, one, inputs) for one in each]
                for one, value in zip(each, made, strict=True):
                    one[node] = value
            drawn += [one[self.result] for one in each]
        return torch.stack(drawn).unsqueeze(2)

    def _drawn(
        self, values: dict[Any, Tensor], keys: Tensor, inputs: int
    ) -> tuple[dict[Any, Tensor], dict[Any, _Kept]]:
        """What each site multiplies by in each sample, and what it keeps where a part is to be computed."""
        masks: dict[Any, Tensor] = {}
        kept: dict[Any, _Kept] = {}
        for node, site in self.sites.items():
            ones = torch.ones(len(keys), *site.shape, dtype=_meta(node).dtype, device="cpu")
            masks[node] = node.target(ones, values[node.args[1]], *_filled(node.args[2:4], values))
            if site.is_worth(inputs):
                made = _Kept(masks[node])
                if len(site.shape) == 2 or all(map(len, made.parts)):  # a convolution has a channel at least
                    kept[node] = made
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
    worth = any(site.sinks for site in found.sites.values())
    return found if worth and result in found.rows else None


def _is_row(node: fx.Node) -> bool:
    """Whether a node has the input's batch of one in front, where all inputs can stand."""
    value = _meta(node)
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != 1:
        return False
    return value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)


def _is_apart(node: Any, found: Thinly) -> bool:
    """Whether a node computes each input from itself."""
    target, args = node.target, node.args
    rows = [one for one in node.all_input_nodes if one in found.rows]
    alone = rows == [args[0]] if args else False
    if target is _ours.dropout.default:
        known = args[1] in found.keyed or args[1] is found.key
        p: Any = args[2]
        return alone and known and not node.kwargs and len(args) <= 5 and _meta(p).numel() == 1
    if found.key in node.all_input_nodes or any(one in found.keyed for one in node.all_input_nodes):
        return False
    if target in _MAPS:
        return rows == [_operands(node)[1]] and not node.kwargs and _is_plain(node)
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


def _operands(node: fx.Node) -> tuple[Any, Any, Any]:
    """Bias, input and weight of a map; a linear one's weight is (in, out)."""
    args: Any = node.args
    if node.target is _aten.convolution.default:
        return args[2], args[0], args[1]
    return (None, *args) if node.target is _aten.mm.default else args


def _is_plain(node: Any) -> bool:
    """Whether a convolution has one group, and goes forward."""
    if node.target in _LINEAR:
        return True
    transposed, groups = node.args[6], node.args[8]
    return not transposed and groups == 1


def _site(node: fx.Node) -> _Site:
    sizes = tuple(_meta(node.args[0]).shape)
    noise: Any = node.args[4] if len(node.args) > 4 else None
    shape = tuple(1 if noise is not None and noise[k] == 1 else size for k, size in enumerate(sizes))
    sinks = _sinks(node) if math.prod(shape) == shape[1] else ()
    positions = math.prod(_meta(sinks[0]).shape[2:]) if sinks else 1
    weights = max((math.prod(_meta(_operands(sink)[2]).shape) for sink in sinks), default=0)
    return _Site(shape, _source(node) if sinks else None, sinks, positions, weights)


def _sinks(site: fx.Node) -> tuple[fx.Node, ...]:
    """The maps that read a site; none where something else does."""
    found: list[Any] = []
    way: list[Any] = [site]
    for node in way:
        for user in node.users:
            if user.target in _SCALING:
                way.append(user)
            elif user.target in _MAPS and _operands(user)[1] is node:
                found.append(user)
            else:
                return ()
    return tuple(found)


def _source(site: fx.Node) -> Any:
    """The map whose units a site's are, if nothing else reads them."""
    node: Any = site.args[0]
    while len(node.users) == 1:
        if node.target in _MAPS:
            return node
        if node.target not in _ELEMENTS:
            return None
        node = node.args[0]
    return None


def _inputs(site: Any, kept: _Kept, each: list[dict[Any, Tensor]], some: range) -> list[Tensor]:
    """What each of some samples keeps of a site's input."""
    x = [one[site.args[0]] for one in each]
    columns = [kept.parts[k] for k in some]
    if all(one is x[0] for one in x):
        return gathered_many(x[0].contiguous(), [None] * len(some), columns, 1.0)
    return [take(one.contiguous(), None, part) for one, part in zip(x, columns, strict=True)]


def _maps(
    node: Any, each: list[dict[Any, Tensor]], out: _Kept | None, inward: _Kept | None, some: range
) -> list[Tensor]:
    """A linear map or a convolution for some samples, of the units that are kept."""
    weight = each[0][_operands(node)[2]]
    weight = weight.t() if node.target in _LINEAR else weight
    rows, columns = ([None if kept is None else kept.parts[k] for k in some] for kept in (out, inward))
    if out is None and inward is None:
        weights = [weight] * len(some)
    else:
        weights = gathered_many(weight, rows, columns, 1.0 if inward is None else inward.scale)
    return [_map(node, *three, len(weight)) for three in zip(each, weights, rows, strict=True)]


def _map(node: Any, values: dict[Any, Tensor], weight: Tensor, rows: Tensor | None, width: int) -> Tensor:
    bias, x, _ = (None if one is None else values[one] for one in _operands(node))
    assert x is not None
    if bias is not None and rows is not None:
        wide = bias.expand(*bias.shape[:-1], width)  # of one number, or with the batch of one
        bias = wide.index_select(-1, rows)
    if node.target not in _LINEAR:
        return torch.convolution(x, weight, bias, *node.args[3:])
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def _each(node: Any, values: dict[Any, Tensor], inputs: int) -> Tensor:
    args = _filled(node.args, values)
    if node.target in _VIEWS:
        args = (args[0], [inputs, *args[1][1:]])
    result: Tensor = node.target(*args, **node.kwargs)
    return result


def _filled(args: Any, values: dict[Any, Tensor]) -> tuple[Any, ...]:
    return tuple(values[one] if isinstance(one, fx.Node) else one for one in args)


def _meta(node: Any) -> Any:
    return node.meta.get("val")
