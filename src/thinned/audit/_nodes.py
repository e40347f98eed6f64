"""This file has what a node of a file is: a constant, a layer, a name that says something."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Sequence
from typing import Any

import libcst as cst
from libcst import matchers as m

from thinned.audit._names import FUNCTIONS, LAYERS
from thinned.audit._source import Place, Source

MISSING: Any = object()  # no such argument
UNKNOWN: Any = object()  # not a constant

_MODULE_BASE = re.compile(
    r"(^|\.)(nn\.)?(\w*(Module|Model|Layer|Mixin|Block|Net|Encoder|Decoder|Attention))$"
)
# A name that says "keep", not one that says "keepdim" or "keep_alive".
_KEEP = re.compile(
    r"(^|_)keep(_?(p|prob|probs|probability|rate|ratio|pct))?(_|$|\d)|^p_?keep$|keepprob", re.IGNORECASE
)
_DROP = re.compile(
    r"(^|_)(drop|dropout|drop_?(p|prob|rate|out_?rate)|dropout_?(p|prob|rate))$", re.IGNORECASE
)


def argument(call: cst.Call, position: int | None, keyword: str) -> Any:
    """An argument's expression; None where it is missing, UNKNOWN where a star may hold it."""
    plain = 0
    for one in call.args:
        if one.star:
            return UNKNOWN
        if one.keyword is not None:
            if one.keyword.value == keyword:
                return one.value
        else:
            if plain == position:
                return one.value
            plain += 1
    return None


def number(node: Any) -> Any:
    """The value of a constant number or bool; UNKNOWN for any other expression."""
    if not isinstance(node, cst.BaseExpression):
        return UNKNOWN
    if m.matches(node, m.Name("True") | m.Name("False")):
        return node.value == "True"  # type: ignore[attr-defined]
    try:
        value = ast.literal_eval(cst.Module([]).code_for_node(node))
    except (ValueError, SyntaxError):
        return UNKNOWN
    return value if isinstance(value, (int, float)) else UNKNOWN


def says(node: cst.CSTNode, pattern: re.Pattern[str], source: Source) -> bool:
    """Tells whether the text of an expression holds such a word."""
    return bool(pattern.search(source.code(node)))


def last_word(node: cst.CSTNode) -> str:
    """`c` of `a.b.c`, of `c`, and of `a["c"]`; empty for any other expression."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        return node.attr.value
    if m.matches(node, m.Subscript(slice=[m.SubscriptElement(slice=m.Index(value=m.SimpleString()))])):
        string = node.slice[0].slice.value  # type: ignore[attr-defined]
        return str(ast.literal_eval(string.value))
    return ""


def is_keep(node: cst.CSTNode) -> bool:
    """Tells whether an expression is a name that says it is a keep probability."""
    return bool(_KEEP.search(last_word(node)))


def is_drop(node: cst.CSTNode) -> bool:
    """Tells whether an expression is a name that says it is a drop probability."""
    return bool(_DROP.search(last_word(node)))


def is_self(node: cst.CSTNode, *names: str) -> bool:
    """Tells whether an expression is an attribute of `self`, of one of these names if any are given."""
    if not m.matches(node, m.Attribute(value=m.Name("self"))):
        return False
    return not names or node.attr.value in names  # type: ignore[attr-defined]


def module_class(place: Place, source: Source) -> cst.ClassDef | None:
    """The class of a layer or model of which this stands in a method, one that knows `self.training`."""
    found, function = place.method_of, place.function
    if found is None or function is None or not is_torch_module(found, source):
        return None
    first = next(iter((*function.params.posonly_params, *function.params.params)), None)
    static = any(last_word(one.decorator) in {"staticmethod", "classmethod"} for one in function.decorators)
    return found if first is not None and first.name.value == "self" and not static else None


def parameters(function: cst.FunctionDef) -> set[str]:
    """The names of a function's parameters."""
    every = (*function.params.posonly_params, *function.params.params, *function.params.kwonly_params)
    return {one.name.value for one in every}


def is_torch_module(cls: cst.ClassDef, source: Source) -> bool:
    """Tells whether a class is one of torch's modules: by its base, or by a base in this file."""
    local = {each.node.name.value: each.node for each in source.all(cst.ClassDef)}
    seen, todo = set(), [cls]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        for base in one.bases:
            name = source.name(base.value)
            if name.startswith("torch.nn.") and not name.startswith("torch.nn.functional"):
                return True
            word = last_word(base.value)
            if word in local:
                todo.append(local[word])
            elif not name.startswith(("keras", "tensorflow", "flax", "haiku", "equinox")) and (
                _MODULE_BASE.search(word) and has_method(cls, "forward")
            ):
                return True
    return False


def has_method(cls: cst.ClassDef, name: str) -> bool:
    """Tells whether a class defines such a method itself."""
    return any(isinstance(one, cst.FunctionDef) and one.name.value == name for one in cls.body.body)


def layers_of(cls: cst.ClassDef, source: Source) -> dict[str, cst.Call]:
    """Attributes of a class that hold a layer: name to the call that makes it."""
    return _attributes(source).get(cls, {})


@functools.lru_cache(maxsize=1)
def _attributes(source: Source) -> dict[cst.ClassDef, dict[str, cst.Call]]:
    known: dict[cst.ClassDef, dict[str, cst.Call]] = {}
    for place in source.all(cst.Assign):
        cls = place.method_of
        if cls is None or not isinstance(place.node.value, cst.Call):
            continue
        for target in place.node.targets:
            if is_self(target.target):
                known.setdefault(cls, {})[target.target.attr.value] = place.node.value
    return known


def dropped(call: Any, place: Place, source: Source) -> Any:
    """Return what a call drops, where it is one of dropout; else None.

    A function's argument, or what a layer is called with: `F.dropout(x)`, `self.drop(x)`, `Dropout(.5)(x)`.
    """
    if not isinstance(call, cst.Call):
        return None
    position = FUNCTIONS.get(source.name(call.func))
    if position is not None:
        given = argument(call, position, "input")
        return given if isinstance(given, cst.BaseExpression) else None
    if not is_layer(call.func, place, source):
        return None
    given = argument(call, 0, "inputs")
    return given if isinstance(given, cst.BaseExpression) else None


def is_layer(node: cst.CSTNode, place: Place, source: Source, kinds: frozenset[str] = LAYERS) -> bool:
    """Tells whether an expression is a layer of such kinds: made here, or a name or an attribute of one."""
    if isinstance(node, cst.Call):
        return source.name(node.func) in kinds
    if isinstance(node, cst.Name):
        made = list(assigned_in(place.function, node.value, source))
        return bool(made) and all(
            isinstance(one, cst.Call) and source.name(one.func) in kinds for one in made
        )
    cls = place.method_of
    if cls is not None and is_self(node):
        held = layers_of(cls, source).get(last_word(node))
        return held is not None and source.name(held.func) in kinds
    return False


def assigned_in(function: cst.FunctionDef | None, name: str, source: Source) -> Sequence[cst.BaseExpression]:
    """Return what a function assigns to a name of its own."""
    return source.assigned.get((function, name), ())
