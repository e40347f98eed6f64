"""This file finds dropout that is no module: rates as numbers, and calls of functions in a forward."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import torch

from thinned.torch import _compat

_FUNCTIONS = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"),
    *("alpha_dropout", "feature_alpha_dropout", "multi_head_attention_forward"),
    *("drop_path", "drop_block2d", "drop_block3d", "stochastic_depth"),
}

# Of torch_geometric, each with what takes its place.
_OF_GRAPHS = {
    "dropout_edge": "DropEdge",
    "dropout_node": "DropNode",
    "dropout_path": "DropEdge",
    "dropout_adj": "DropEdge",
    "mask_feature": "SpatialDropout",
}

_DEPTH = 3  # functions in functions that are read


def rates(module: torch.nn.Module) -> dict[str, float]:
    """The numbers in (0, 1] of a module that are drop probabilities by their name."""
    kind = type(module).__name__
    alone = "Drop" in kind or "StochasticDepth" in kind
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, float) and 0.0 < value <= 1.0 and ("drop" in name or (alone and name == "p"))
    }


def drops(module: torch.nn.Module) -> tuple[str, ...]:
    """Return where the source of a module's class calls a function that drops, and is not ours.

    Seen are calls by a name that the source file has, `F.dropout(…)` or `dropout(…)`, in the class's methods,
    those of its bases, and the functions that these call. Not seen are local imports, variables and compiled
    code.
    """
    kind: Any = type(module)
    return _drops(kind)


def reads(module: torch.nn.Module) -> tuple[str, ...]:
    """Tells where the source of a module's class reads the p of one of its dropout modules, to hand it on."""
    kind: Any = type(module)
    return tuple(
        f"{where} reads self.{child}.p"
        for where, child in _reads(kind)
        if isinstance(getattr(module, child, None), _compat.DROPOUTS) and getattr(module, child).p != 0
    )


def passes_call(module: torch.nn.Module) -> tuple[str, ...]:
    """Lists where a module's source passes `call=` to a part of it, which torch.nn's do not take."""
    kind: Any = type(module)
    return _passes_call(kind)


@functools.lru_cache(maxsize=1024)
def asks_transformers(kind: Any) -> bool:
    """Tells whether a class's forward asks transformers which function its attention is."""
    cls = next((cls for cls in kind.__mro__ if "forward" in vars(cls)), torch.nn.Module)
    return not _is_others(_root(cls)) and any(
        isinstance(node, ast.Name) and node.id == "ALL_ATTENTION_FUNCTIONS"
        for method in _methods(cls)
        if method.name == "forward"
        for node in ast.walk(method)
    )


@functools.lru_cache(maxsize=1024)  # finding a class's source reads the whole file
def _drops(kind: Any) -> tuple[str, ...]:
    found = []
    for cls, method, call in _calls(kind):
        names = vars(sys.modules.get(cls.__module__, object))
        found += [f"{cls.__name__}.{method} calls {name}" for name in _dropping(call, names, ())]
    return tuple(dict.fromkeys(found))


def _dropping(call: ast.Call, names: Any, through: tuple[Any, ...]) -> list[str]:
    """The function that a call names, if it drops; those that it calls and that do, if it is another."""
    function = _resolve(call.func, names)
    if function is None or _root(function) == "thinned":
        return []
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2].rstrip("_")
    if last in _FUNCTIONS or (last == "scaled_dot_product_attention" and _attention_drops(call)):
        return [name]
    if last in _OF_GRAPHS:
        return [f"{name}, in whose place thinned.torch.nn has {_OF_GRAPHS[last]}"]
    if (
        not inspect.isfunction(function)
        or _is_others(_root(function))
        or function in through
        or len(through) >= _DEPTH
    ):
        return []
    inner = [node for tree in _tree(function) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    through = (*through, function)
    return [
        f"{name}, which calls {one}"
        for node in inner
        for one in _dropping(node, function.__globals__, through)
    ]


@functools.lru_cache(maxsize=1024)
def _reads(kind: Any) -> tuple[tuple[str, str], ...]:
    """Every `self.name.p` in a class's methods: where, and the name."""
    return tuple(
        (f"{cls.__name__}.{method.name}", node.value.attr)
        for cls in kind.__mro__
        if not _is_others(_root(cls))
        for method in _methods(cls)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and node.attr == "p" and isinstance(node.value, ast.Attribute)
        if isinstance(node.value.value, ast.Name) and node.value.value.id == "self"
    )


@functools.lru_cache(maxsize=1024)  # finding a class's source reads the whole file
def _passes_call(kind: Any) -> tuple[str, ...]:
    return tuple(
        f"{cls.__name__}.{method} passes call= to {ast.unparse(call.func)}"
        for cls, method, call in _calls(kind)
        if ast.unparse(call.func).startswith("self.") and any(word.arg == "call" for word in call.keywords)
    )


def _calls(kind: type) -> Iterator[tuple[type, str, ast.Call]]:
    for cls in kind.__mro__:
        if _is_others(_root(cls)):
            continue
        for method in _methods(cls):
            for node in ast.walk(method):
                if isinstance(node, ast.Call):
                    yield cls, method.name, node


def _methods(cls: type) -> list[ast.FunctionDef]:
    body = [item for tree in _tree(cls) for item in getattr(tree, "body", [])]
    return [item for item in body if isinstance(item, ast.FunctionDef)]


@functools.lru_cache(maxsize=1024)  # finding a source reads the whole file
def _tree(of: Any) -> list[ast.stmt]:
    """A class's or function's source, which alone tells of calls inside a forward; else nothing."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(of))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return []


def _root(of: Any) -> str:
    return str(getattr(of, "__module__", "")).partition(".")[0]


def _is_others(root: str) -> bool:
    """Tells whether this is a package that is known: torch, ours, or Python's own."""
    return root in ("torch", "thinned") or root in sys.stdlib_module_names


def _resolve(expression: ast.expr, names: Any) -> Any:
    """Return what a dotted name stands for in a module; None if for nothing, or for no name at all."""
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        return getattr(_resolve(expression.value, names), expression.attr, None)
    return None


def _attention_drops(call: ast.Call) -> bool:
    """Tells whether dropout_p is given, by keyword or as the fifth argument, and is not a zero."""
    given = call.args[4:5] + [word.value for word in call.keywords if word.arg == "dropout_p"]
    return any(not (isinstance(value, ast.Constant) and value.value == 0) for value in given)
