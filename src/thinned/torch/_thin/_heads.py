"""Which maps around a site of heads have a head's rows and columns: read from a graph, and tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from thinned.torch._thin import _groups
from thinned.torch._thin._chains import draws_between, is_map, name_of, once
from thinned.torch._thin._few_functions import FewHeads, HeadsError
from thinned.torch._thin._few_heads import FUNCTION
from thinned.torch._thin._graphs import Graph, StaysError, check_hooks, drops, is_site
from thinned.torch._thin._kept import Kept, masked
from thinned.torch._thin._samples import evaluating, held, run, shapes_of

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
    """The maps around a site of heads; `why` those before it compute all heads, where they do.

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
    """What a decision for each head reaches in one graph.

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
    trial = _Trial(graph, site, call, region, sources, groups)
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
    """What lies between Linear modules and the site, and these modules' calls."""
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


class _Trial:
    """The way from the maps to the site and on, run on random numbers with all heads and with some."""

    def __init__(
        self,
        graph: Graph,
        site: Any,
        call: fx.Node,
        region: list[fx.Node],
        sources: list[fx.Node],
        groups: int,
    ) -> None:
        self.graph, self.site, self.call = graph, site, call
        self.region, self.sources, self.groups = region, sources, min(groups, 2)
        self.asked: Any = call.args[0]
        self.modules = [graph.calls[node] for node in graph.nodes if node in graph.calls]
        self.values, self.input, self.whole = self._run()
        if self.whole.shape[site.dim] == 1:
            raise StaysError("it drops a single head, which is the whole attention")

    def _run(self) -> tuple[dict[fx.Node, Any], Tensor, Tensor]:
        first: Any = self.graph.calls[self.sources[0]]
        generator = torch.Generator("cpu").manual_seed(0)
        why = "its attention did not run on small random inputs"
        for shape in [*shapes_of(first)[1:], *((size, first.in_features) for size in self._sizes())]:
            x = torch.randn((4, *shape), generator=generator, device="cpu").to(first.weight)
            values: dict[fx.Node, Any] = {}
            for node in self.sources:
                width = self.graph.calls[node].weight.shape[0]  # type: ignore[index]
                size: Any = (*x.shape[:-1], width)
                made = torch.randn(size, generator=generator, device="cpu")
                values[node] = made.to(first.weight).requires_grad_()
            try:
                found = self._go(self.region, dict(values), x)[self.asked]
                if found.dim() > self.site.dim and found.shape[0] == 4:
                    return values, x, found
            except Exception as error:  # a shape that the model does not take
                why = f"{why}: {str(error).partition(chr(10))[0]}"[:200]
        raise StaysError(why)

    def _sizes(self) -> list[int]:
        """Of tensors that the way holds: tables of positions tell how long a sequence has to be."""
        known = [held(self.graph, node) for node in self.graph.nodes if node.op == "get_attr"]
        sizes = (size for one in known if isinstance(one, Tensor) for size in one.shape[-2:])
        return sorted({size for size in sizes if 1 < size <= 1024})

    def _go(self, nodes: list[fx.Node], values: dict[fx.Node, Any], x: Tensor) -> dict[fx.Node, Any]:
        """The values of nodes, with an input in the place of what is not computed from the maps alone."""
        wanted, way = set(nodes), list(nodes)
        for node in way:
            for one in node.all_input_nodes:
                if one in values or one in wanted:
                    continue
                if one.op in ("placeholder", "call_module"):
                    values[one] = x
                else:
                    wanted.add(one)
                    way.append(one)
        with masked(), evaluating(self.modules):
            nodes = [node for node in self.graph.nodes if node in wanted and node.op != "get_attr"]
            run(self.graph, nodes, values)
        return values

    def before(self) -> tuple[tuple[tuple[int, int], ...], int]:
        """Each map's layout, and how many heads there are."""
        count = self.whole.shape[self.site.dim]
        noise = torch.linspace(1, 2, self.whole.numel()).reshape(self.whole.shape).to(self.whole)
        maps = [self.values[node] for node in self.sources]
        one = (self.whole * noise).select(self.site.dim, 0).sum()
        try:
            grads = torch.autograd.grad(one, maps, allow_unused=True)
        except RuntimeError as error:
            raise StaysError(f"no gradient leads from it to the maps before it: {error}") from None
        layouts = tuple(_layout(grad, count) for grad in grads)
        kept = self._kept(count)
        few: dict[fx.Node, Any] = {}
        for node, (outer, inner) in zip(self.sources, layouts, strict=True):
            whole = self.values[node].detach()
            part = _groups.columns(whole, kept.of(outer, inner), whole.dim() - 1)
            few[node] = FewHeads(part, whole.shape, whole.dim() - 1, outer, inner, kept)
        try:
            with torch.no_grad():
                made: Any = self._go(self.region, few, self.input)[self.asked]
        except HeadsError as error:
            raise StaysError(f"between its maps is {error.what}") from None
        except Exception as error:
            raise StaysError(f"what is between its maps did not run on some of the heads: {error}") from None
        axis = self.site.dim % self.whole.dim()
        if not isinstance(made, FewHeads) or made.axis != axis or (made.outer, made.inner) != (1, 1):
            raise StaysError(f"dim={self.site.dim} is not that of the heads")
        self._compare(made, self.whole)
        return layouts, count

    def behind(self, nodes: list[fx.Node], sinks: list[fx.Node]) -> None:
        """Whether each map behind has each head's columns side by side."""
        whole = self.whole.detach()
        axis = self.site.dim % whole.dim()
        kept = self._kept(whole.shape[axis])
        few = FewHeads(_groups.columns(whole, kept, axis), whole.shape, axis, 1, 1, kept)
        inner = [node for node in nodes if node not in sinks]
        try:
            with torch.no_grad():
                made = self._go(inner, {self.call: few}, self.input)
                full = self._go(inner, {self.call: whole}, self.input)
        except HeadsError as error:
            raise StaysError(f"behind it is {error.what}") from None
        except Exception as error:
            raise StaysError(f"what is behind it did not run on random numbers: {error}") from None
        for sink in sinks:
            asked: Any = sink.args[0]
            got = made[asked]
            if got.axis != len(got.shape) - 1 or got.outer != 1:
                raise StaysError(
                    f"{name_of(self.graph, sink)} behind it does not have a head's columns together"
                )
            self._compare(got, full[asked])

    def _kept(self, count: int) -> Kept:
        some = torch.arange(0, max(count - 1, 1), 2)
        parts = [some + (group if count > 1 else 0) for group in range(self.groups)]
        return Kept(tuple(parts), count, 2.0)

    def _compare(self, few: FewHeads, whole: Tensor) -> None:
        """Hold that what is computed of some heads is what is computed of all."""
        whole = whole.detach()
        expected = _groups.columns(whole, few.kept.of(few.outer, few.inner), few.axis)
        rounding = 0.05 if torch.finfo(whole.dtype).bits <= 16 else 1e-3
        if few.shape != whole.shape or few.part.shape != expected.shape:
            raise StaysError("its heads have other sizes")
        if (few.part - expected).abs().max() > rounding * whole.abs().max():
            raise StaysError("its heads are mixed, as a run on random numbers shows")


def _layout(grad: Tensor | None, count: int) -> tuple[int, int]:
    """Where a map's rows of the first head stand, seen by its gradient."""
    if grad is None:
        raise StaysError("a map before it does not reach it")
    reached = grad.reshape(-1, grad.shape[-1]).abs().amax(0) > 0
    size = len(reached)
    inner = size if reached.all() else int((~reached).nonzero()[0])
    outer = size // (count * inner) if inner else 0
    expected = torch.arange(size) // max(inner, 1) % count == 0
    if not outer or outer * count * inner != size or not torch.equal(reached.cpu(), expected):
        raise StaysError("the rows of a head do not stand side by side, or serve other heads too")
    return outer, inner


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op.startswith("call_") else ""


def _asks_for_size(node: fx.Node) -> bool:
    """Whether a node reads a tensor's size, or its kind."""
    if node.op == "call_function" and _name(node) == "getattr":
        return str(node.args[1]) in ("shape", "ndim", "dtype", "device")
    return node.op == "call_method" and node.target in _SIZES
