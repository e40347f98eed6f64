"""A model by what was typed: a saved program of torch.export, or the path of a factory."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import fx, nn

_aten = torch.ops.aten

# Where a call says whether it trains.
_TRAINS: Final[dict[Any, int]] = {
    **{
        getattr(_aten, f"{name}{end}").default: 2
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
        for end in ("", "_")
    },
    _aten.batch_norm.default: 5,
    _aten.rrelu.default: 3,
    **{getattr(_aten, name).input: 6 for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{getattr(_aten, name).data: 7 for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
# What drops, and where its probability is.
_RATES: Final[dict[Any, int]] = {
    **{target: 1 for target, place in _TRAINS.items() if place == 2},
    **{target: place - 1 for target, place in _TRAINS.items() if place >= 6},
    _aten.native_dropout.default: 1,
    _aten.scaled_dot_product_attention.default: 4,
}

_REMEDY: Final = (
    "export model.train(), which is turned to evaluation here, and save it before run_decompositions: "
    "exported in evaluation, a program keeps torch's dropout layers, but not the dropout of "
    "MultiheadAttention or of thinned's layers. Or give the model as package.module:factory"
)


def load(path: str, state: Path | None) -> nn.Module:
    """The model that a path means.

    Raises:
        ValueError: what is wrong with the path, the program or the factory, and what to do.
    """
    if path.endswith(".pt2"):
        if state is not None:
            raise ValueError(f"--state: {path!r} is a program, which has its weights in it")
        return program(path)
    if ":" not in path:
        raise ValueError(
            f"MODEL must be a program (.pt2), package.module:factory or file.py:factory, got {path!r}"
        )
    model = _made(*path.rsplit(":", 1))
    if state is not None:
        _load_state(model, state)
    return model


def program(path: str) -> nn.Module:
    """A saved program, brought to evaluation: rates stay in it, and no statistics are gathered."""
    try:
        saved = torch.export.load(path)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"cannot read {path!r} as a program of torch.export: {_first_line(error)}") from None
    module: Any = saved.module()
    graph: fx.Graph = module.graph
    _check_batch(path, graph)
    for node in list(graph.nodes):
        if _counts_batches(node):
            graph.erase_node(node)
        elif node.target in _TRAINS and len(node.args) > _TRAINS[node.target]:
            place = _TRAINS[node.target]
            node.args = (*node.args[:place], False, *node.args[place + 1 :])
    if not any(_drops(node) for node in graph.nodes):
        raise ValueError(f"{path!r} has no dropout left: {_REMEDY}")
    module.recompile()
    return module  # type: ignore[no-any-return]


def _counts_batches(node: fx.Node) -> bool:
    """Batch normalisation's counter, which nothing reads."""
    first = node.args[0] if node.args else None
    return (
        node.target is _aten.add_.Tensor
        and isinstance(first, fx.Node)
        and first.op == "get_attr"
        and str(first.target).endswith("num_batches_tracked")
    )


def _drops(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    if str(node.target).startswith(("thinned.dropout", "thinned.gaussian_dropout")):
        return True
    place = _RATES.get(node.target)
    return place is not None and len(node.args) > place and bool(node.args[place])


def _check_batch(path: str, graph: fx.Graph) -> None:
    """Programs are for one size of batch unless they were told otherwise."""
    for node in graph.nodes:
        shape = getattr(node.meta.get("val"), "shape", ()) if node.op == "placeholder" else ()
        if shape and isinstance(shape[0], int):
            raise ValueError(
                f"{path!r} takes batches of {shape[0]} inputs and no others: export it with dynamic_shapes="
                "({0: torch.export.Dim.DYNAMIC},) and an example of at least two inputs"
            )


def _made(where: str, name: str) -> nn.Module:
    with _importable():
        module = _module(where)
        factory = getattr(module, name, None)
        if factory is None:
            known = ", ".join(one for one in vars(module) if not one.startswith("_"))
            raise ValueError(f"{where!r} has no {name!r}: it has {known}")
        model = factory if isinstance(factory, nn.Module) or not callable(factory) else factory()
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{where}:{name} must make a torch.nn.Module without arguments, got {type(model).__name__}"
        )
    return model


@contextmanager
def _importable() -> Iterator[None]:
    """The working directory, as `python -m` has it."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise ValueError(f"cannot import {where!r}: there is no module {error.name!r}") from None
    path = Path(where)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"there is no file {where!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load_state(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"--state: cannot load {str(path)!r} into the model: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
