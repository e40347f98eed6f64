"""A command gets its model here: a saved program of torch.export, or what a factory returns."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import pickle
import re
import sys
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import fx, nn

from thinned._files import reading, reason

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

# Parts of a saved program that are no tensors and no graph.
_CODE: Final = re.compile(r"(^|/)(opaque_obj_|custom_obj_)|(^|/)data/aotinductor/|\.so$")

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
    """A saved program, brought to evaluation: rates stay in it, and no statistics are gathered.

    Raises:
        UnreadableError: it is no program, or holds more than tensors and a graph.
        ValueError: what it lacks.
    """
    with reading(path, "a program of torch.export"), _weights_only():
        _check_parts(path)
        saved = torch.export.load(path)
        module: Any = saved.module()
    graph: fx.Graph = module.graph
    _check_batch(path, graph)
    for node in list(graph.nodes):
        if _counts_batches(node):
            graph.erase_node(node)
        elif str(node.target).startswith("thinned.draw_key"):
            # Keys are those of samples and inputs: none is drawn of torch's generator.
            drawn = node.meta["val"]
            node.target, node.args = torch.zeros, (tuple(drawn.shape),)
            node.kwargs = {"dtype": drawn.dtype}
        elif node.target in _TRAINS and len(node.args) > _TRAINS[node.target]:
            place = _TRAINS[node.target]
            node.args = (*node.args[:place], False, *node.args[place + 1 :])
    if not any(_drops(node) for node in graph.nodes):
        raise ValueError(f"{path!r} has no dropout left: {_REMEDY}")
    module.recompile()
    return module  # type: ignore[no-any-return]


def _check_parts(path: str) -> None:
    """Refuse what torch would load by unpickling or linking: objects of classes, and compiled libraries."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    wrong = [name for name in names if _CODE.search(name)]
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} in it is an object or a library, which runs code when it is loaded: export a "
            "model of tensors alone, or give the model as package.module:factory"
        )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Every `torch.load` inside unpickles tensors and nothing else, and what torch logs stays unsaid."""
    changed = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in changed}
    log = logging.getLogger("torch")
    level = log.level
    os.environ.update(changed)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"it holds {named[1] if named else 'an object'} beside its tensors, which could run code when "
            "it is loaded"
        ) from None
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
        with _own_code(f"{where}:{name}"):
            model = factory if isinstance(factory, nn.Module) or not callable(factory) else factory()
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{where}:{name} must make a torch.nn.Module without arguments, got {type(model).__name__}"
        )
    return model


@contextmanager
def _own_code(where: str) -> Iterator[None]:
    """Say of an error in the model's own code at which line it is."""
    try:
        yield
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{where} raises {type(error).__name__}: {reason(error)} ({last.filename}, line {last.lineno})"
        ) from error


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
            with _own_code(where):
                return importlib.import_module(where)
        except ValueError as error:
            missing = error.__cause__
            if not isinstance(missing, ModuleNotFoundError):
                raise
            raise ValueError(f"cannot import {where!r}: there is no module {missing.name!r}") from None
    path = Path(where)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"there is no file {where!r}")
    module = importlib.util.module_from_spec(spec)
    with _own_code(where):
        spec.loader.exec_module(module)
    return module


def _load_state(model: nn.Module, path: Path) -> None:
    with reading(path, "the model's weights (--state)"), _weights_only():
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
