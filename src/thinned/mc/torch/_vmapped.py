"""A function under vmap is traced here into the operators that vmap runs, to save vmap's cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from thinned.torch import _compat

_aten = torch.ops.aten

_RESHAPED = (_aten.view.default, _aten.unsqueeze.default)
_MOST = 32  # sets of shapes of which graphs are kept: beyond, vmap does the work in each call

Function = Callable[..., Sequence[Tensor]]


class Flat:
    """The same outputs as a function's, to the bit, from a list of operators for all arguments of one shape.

    vmap's rules cost Python for every operator in every call, on tiny models twenty times the operators
    themselves. Shapes that come for the second time are traced through the rules. The graph is used if it
    gives the bits of the function; otherwise the function is called as ever. Weights are read by the graph,
    not kept in it.

    Args:
        function: of tensors, whose types, devices and strides are the same in every call with these shapes.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._graphs: dict[Any, Function | None] = {}

    def __call__(self, *args: Tensor) -> Sequence[Tensor]:
        """Call the function."""
        kind = tuple([one.shape for one in args])
        graph = self._graphs.get(kind)
        if graph is not None:
            return graph(*args)
        out = self._function(*args)
        if kind not in self._graphs:
            if len(self._graphs) < _MOST:
                self._graphs[kind] = None
                self._graphs[kind, "came"] = None
        elif self._graphs.pop((kind, "came"), False) is None:
            self._graphs[kind] = self._traced(args, out)
        return out

    def _traced(self, args: Sequence[Tensor], out: Sequence[Tensor]) -> Function | None:
        """The graph, if there can be one and it gives these outputs."""
        try:
            with _compat.compiled_code_may_be_traced():
                made = make_fx(self._function)(*args)
            _shorten(made.graph)
            made.recompile()
            again = made.forward(*args)
        except Exception:
            return None  # an operator that cannot be traced under vmap: the function itself still runs
        return made.forward if all(map(_equal, again, out)) else None


def _shorten(graph: fx.Graph) -> None:
    """Removes operators that change nothing, of which the rules leave three for each operator."""
    for node in graph.nodes:
        if node.target is _aten.permute.default and list(node.args[1]) == list(range(len(node.args[1]))):
            node.replace_all_uses_with(node.args[0])
        elif node.target is _aten.view.default and node.args[0].target in _RESHAPED:
            node.args = (node.args[0].args[0], node.args[1])
        elif node.target is torch.ops.thinned_mc.linear.default:
            node.target = _aten.addmm.default
    graph.eliminate_dead_code()


def _equal(a: Tensor, b: Tensor) -> bool:
    """To the bit, of equal strides; NaN is NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


# torch's rule for vmap makes a product and a sum of a linear layer: in two GPT blocks the sum is a tenth of
# the time.
_library = torch.library.Library("thinned_mc", "FRAGMENT")
_library.define("linear(Tensor bias, Tensor input, Tensor weight) -> Tensor")


def _run(bias: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    return torch.addmm(bias, input, weight)


def _batched(info: Any, in_dims: Any, bias: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor, int]:
    """Rows of all examples together, where they share weights; each by itself where they do not."""
    at_bias, at_input, at_weight = in_dims
    if at_bias is None and at_weight is None:
        rows = input.movedim(at_input, 0)
        out = torch.ops.thinned_mc.linear(bias, rows.flatten(0, 1), weight)
        return out.unflatten(0, rows.shape[:2]), 0
    bias, input, weight = (
        x if at is None else x.movedim(at, 0) for x, at in zip((bias, input, weight), in_dims, strict=True)
    )
    return input @ weight + (bias if at_bias is None else bias.unsqueeze(1)), 0


_library.impl("linear", _run, "CompositeExplicitAutograd")
torch.library.register_fake(
    "thinned_mc::linear",
    lambda bias, input, weight: input.new_empty(input.shape[0], weight.shape[1]),
    lib=_library,
)
torch.library.register_vmap("thinned_mc::linear", _batched, lib=_library)
