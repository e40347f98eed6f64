"""A way through attention, run on random numbers with all heads and with some: are heads kept apart on it?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from thinned.torch._thin import _groups
from thinned.torch._thin._chains import name_of
from thinned.torch._thin._few_functions import FewHeads, HeadsError
from thinned.torch._thin._graphs import Graph, StaysError
from thinned.torch._thin._kept import Kept, masked
from thinned.torch._thin._samples import check_numbers, evaluating, held, run, shapes_of


class Trial:
    """This is the way from the maps to the site and on.

    `before` and `behind` raise StaysError where heads may be mixed.
    """

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
        check_numbers(self.modules)
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
        """Gives the values of nodes, with an input in place of what is not computed from the maps alone."""
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
        noise = (
            torch.linspace(1, 2, self.whole.numel(), device="cpu").reshape(self.whole.shape).to(self.whole)
        )
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
        """Tells whether each map behind has each head's columns side by side."""
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
        some = torch.arange(0, max(count - 1, 1), 2, device="cpu")
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
    """Tells where a map's rows of the first head stand, seen by its gradient."""
    if grad is None:
        raise StaysError("a map before it does not reach it")
    reached = grad.reshape(-1, grad.shape[-1]).abs().amax(0) > 0
    size = len(reached)
    inner = size if reached.all() else int((~reached).nonzero()[0])
    outer = size // (count * inner) if inner else 0
    expected = torch.arange(size, device="cpu") // max(inner, 1) % count == 0
    if not outer or outer * count * inner != size or not torch.equal(reached.cpu(), expected):
        raise StaysError("the rows of a head do not stand side by side, or serve other heads too")
    return outer, inner
