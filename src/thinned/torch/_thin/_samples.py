"""Whether a branch computes each sample from itself: it is run on a few small batches of random numbers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from thinned.torch._thin._graphs import Graph, StaysError
from thinned.torch._thin._kept import masked

_SAMPLES = 6
_SOME = [1, 2, 4]
_TOKENS, _SIDES, _PIXELS = (3, 4, 16, 49, 64, 196, 197), (3, 7, 8, 14), (8, 7, 14, 16, 32)
_CHANNELS = tuple(
    getattr(torch.nn, f"{kind}{rank}d") for kind in ("Conv", "ConvTranspose") for rank in (1, 2, 3)
)


def ranks_of(graph: Graph, inside: list[fx.Node], stream: fx.Node) -> frozenset[int]:
    """Tells how many dimensions the residual stream may have.

    All but some samples are NaN, which nothing may spread to these; and they alone give the same numbers. The
    shape of a branch's input is not known here, so a few are tried of each rank.

    Raises:
        StaysError: if samples were mixed in all, or the branch runs on none of them.
    """
    apart: set[int] = set()
    mixed: set[int] = set()
    tried: set[int] = set()
    modules = [graph.calls[node] for node in inside if node in graph.calls]
    check_numbers(modules)
    with masked(), evaluating(modules), torch.no_grad():
        for rank, make in _inputs(modules):
            again = rank in tried
            tried.add(rank)
            if not (again and apart | mixed):  # a second size only where none ran
                found = _keeps_apart(graph, inside, stream, make())
                if found is not None:
                    (apart if found else mixed).add(rank)
    if not apart:
        raise StaysError(
            "its branch mixes samples, as a run on random numbers shows"
            if mixed
            else "its branch did not run on small random inputs, which would show whether it mixes samples"
        )
    return frozenset(apart)


def check_numbers(modules: Iterable[torch.nn.Module]) -> None:
    """Refuse modules without numbers, of which a run shows nothing.

    Raises:
        StaysError: `its weights are on the meta device …`.
    """
    if any(weight.is_meta for module in modules for weight in module.parameters()):
        raise StaysError(
            "its weights are on the meta device, and a run shows whether samples or heads are mixed: take "
            "thin(model) when they are loaded"
        )


def _keeps_apart(graph: Graph, inside: list[fx.Node], stream: fx.Node, x: Tensor) -> bool | None:
    """Tells whether samples have the same results with others and without; None if the branch fails."""
    some = x[_SOME]
    among = torch.full_like(x, torch.nan) if x.is_floating_point() else x.clone()
    among[_SOME] = some
    try:
        whole = run(graph, inside, {stream: among})
        if whole.shape[0] != _SAMPLES:
            return None
    except Exception:  # a shape that the branch does not take
        return None
    try:
        alone = run(graph, inside, {stream: some})
    except Exception:
        return False
    if alone.shape != whole[_SOME].shape or not alone.is_floating_point():
        return False
    rounding = 0.05 if torch.finfo(alone.dtype).bits <= 16 else 1e-3
    most = alone.abs().max()
    return bool((alone - whole[_SOME]).abs().max() <= rounding * most)


def run(graph: Graph, inside: list[fx.Node], values: dict[fx.Node, Any]) -> Any:
    """Gives the value of the last of some nodes, by the values of others, to which theirs are added."""
    value: Any = None
    for node in inside:
        args, kwargs = (_filled(graph, given, values) for given in (node.args, node.kwargs))
        if node.op == "call_module":  # without hooks, which may count calls
            value = graph.calls[node].forward(*args, **kwargs)
        elif node.op == "call_method":
            value = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            value = node.target(*args, **kwargs)  # type: ignore[operator]
        values[node] = value
    return value


def _filled(graph: Graph, given: Any, values: dict[fx.Node, Any]) -> Any:
    def value(node: fx.Node) -> Any:
        return held(graph, node) if node.op == "get_attr" else values[node]

    return fx.node.map_arg(given, value)


def held(graph: Graph, node: fx.Node) -> Any:
    """Gives what a node takes from the model, or what the model's code made as it was traced."""
    return node.meta["made"] if "made" in node.meta else operator.attrgetter(str(node.target))(graph.root)


def _inputs(modules: list[torch.nn.Module]) -> Iterator[tuple[int, Callable[[], Tensor]]]:
    """Ranks and batches that the first module whose width is known may take."""
    first: Any = next((one for one in modules if shapes_of(one)), None)
    like = None if first is None else next(first.parameters(), None)
    generator = torch.Generator("cpu").manual_seed(0)

    def made(shape: tuple[int, ...]) -> Tensor:
        x = torch.randn((_SAMPLES, *shape), generator=generator, device="cpu")
        if isinstance(first, torch.nn.Embedding):
            return ((x.abs() * first.num_embeddings).long() % first.num_embeddings).to(first.weight.device)
        return x if like is None else x.to(like.device, like.dtype)

    for shape in [(4,), (3, 4)] if first is None else shapes_of(first):
        yield len(shape) + 1, functools.partial(made, shape)


def shapes_of(module: Any) -> list[tuple[int, ...]]:
    """Of one sample."""
    if isinstance(module, _CHANNELS):
        return [(module.in_channels, *(size,) * (module.weight.dim() - 2)) for size in _PIXELS]
    if isinstance(module, torch.nn.GroupNorm):
        return [(module.num_channels, *(size,) * rank) for rank in range(4) for size in _PIXELS]
    if isinstance(module, torch.nn.Embedding):
        return [(3,), ()]
    linear = isinstance(module, torch.nn.Linear)
    wide: Any = (module.in_features,) if linear else getattr(module, "normalized_shape", None)
    if wide is None:
        return []
    return [wide, *((size, *wide) for size in _TOKENS), *((size, size, *wide) for size in _SIDES)]


@contextmanager
def evaluating(modules: list[torch.nn.Module]) -> Iterator[None]:
    """With dropout off, and no buffer written."""
    inner = {one: one.training for module in modules for one in module.modules()}
    try:
        for one in inner:
            one.training = False
        yield
    finally:
        for one, training in inner.items():
            one.training = training
