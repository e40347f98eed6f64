"""This file finds layers that run one after the other: in a container, by `model.add`, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import libcst as cst
from libcst import matchers as m

from thinned.audit._names import FUNCTIONS, LAYERS, RATES, SEQUENTIALS
from thinned.audit._nodes import argument, assigned_in, is_self, last_word, layers_of, number
from thinned.audit._source import Place, Source


class Layer(NamedTuple):
    """One of them.

    Args:
        node: where it stands in the sequence.
        made: the call that holds its rate.
        name: its qualified name, or empty.
        word: the last part of its name.
        last: whether what it gives is returned, or it stands in a container.
    """

    node: cst.BaseExpression
    made: cst.BaseExpression
    name: str
    word: str
    last: bool = False

    @property
    def drops(self) -> bool:
        """Tells whether it is one of dropout, with a rate that is not 0."""
        if self.name not in LAYERS and self.name not in FUNCTIONS:
            return False
        return not isinstance(self.made, cst.Call) or number(_rate(self.made, self.name)) != 0

    def alike(self, other: Layer) -> bool:
        """Tells whether both are of one kind, a layer and its function too."""
        return self.word.replace("_", "").lower() == other.word.replace("_", "").lower()


def _rate(call: cst.Call, name: str) -> Any:
    return argument(call, *RATES[name]) if name in RATES else None


def sequences(source: Source) -> Iterator[list[Layer]]:
    """Each sequence of the file."""
    for place, _ in source.called(SEQUENTIALS):
        items = _items(place.node)
        if items:
            yield [_layer(item, source) for item in items]
    yield from _added(source)
    yield from _lines(source)


def _added(source: Source) -> Iterator[list[Layer]]:
    added: dict[tuple[object, str], list[Layer]] = {}
    blocks: dict[tuple[object, str], object] = {}
    for place in source.all(cst.Call):
        call = place.node
        if m.matches(call, m.Call(func=m.Attribute(value=m.Name(), attr=m.Name("add")), args=[m.Arg()])):
            name = (place.function, call.func.value.value)
            block = place.within(cst.IndentedBlock) or source.module
            if blocks.setdefault(name, block) is not block:
                added.pop(name, None)  # a branch or a loop: the order is not known here
                continue
            added.setdefault(name, []).append(_layer(call.args[0].value, source))
    yield from (layers for layers in added.values() if any(layer.name for layer in layers))


def _items(call: cst.Call) -> list[cst.BaseExpression]:
    if any(one.star for one in call.args) or not call.args:
        return []
    first = call.args[0].value
    if isinstance(first, (cst.List, cst.Tuple)):
        elements = [one.value for one in first.elements]
        return [] if any(isinstance(one, cst.StarredElement) for one in first.elements) else elements
    if m.matches(
        first,
        m.Call(func=m.Name("OrderedDict") | m.Attribute(attr=m.Name("OrderedDict")), args=[m.Arg(m.List())]),
    ):
        pairs = first.args[0].value.elements  # type: ignore[attr-defined]
        if not all(isinstance(pair.value, cst.Tuple) and len(pair.value.elements) == 2 for pair in pairs):
            return []
        return [pair.value.elements[1].value for pair in pairs]
    return [one.value for one in call.args if one.keyword is None]


def _layer(node: cst.BaseExpression, source: Source) -> Layer:
    called = node.func if isinstance(node, cst.Call) else node
    return Layer(node, node, source.name(called), last_word(called), last=True)


def _lines(source: Source) -> Iterator[list[Layer]]:
    """`x = layer(x)` on lines that follow each other, and calls inside calls."""
    for block in (Place(source.module, ()), *source.all(cst.IndentedBlock)):
        name = ""
        chain: list[Layer] = []
        for line in block.node.body:
            value, target = _assigned(line)
            layers, begin = _unfolded(value, Place(line, (*block.around, block.node)), source)
            if chain and (not name or begin != name):
                yield chain
                chain = []
            chain += [one._replace(last=not target and one is layers[-1]) for one in layers]
            name = target
        if chain:
            yield chain


def _assigned(line: cst.CSTNode) -> tuple[Any, str]:
    """The value of a line, and the name that it is given; no name where it is returned."""
    if not m.matches(line, m.SimpleStatementLine(body=[m.Assign(targets=[m.AssignTarget()]) | m.Return()])):
        return None, ""
    [node] = line.body  # type: ignore[attr-defined]
    target = None if isinstance(node, cst.Return) else node.targets[0].target
    return node.value, target.value if isinstance(target, cst.Name) else ""


def _unfolded(value: Any, place: Place, source: Source) -> tuple[list[Layer], str]:
    """Return what an expression calls, from the inside out, and the name that it begins with."""
    layers: list[Layer] = []
    while isinstance(value, cst.Call):
        layers.append(_called(value, place, source))
        if isinstance(value.func, cst.Attribute) and isinstance(value.func.value, cst.Call):
            value = value.func.value  # a method of what was called before
        else:
            value = value.args[0].value if value.args and not value.args[0].star else None
    return layers[::-1], value.value if isinstance(value, cst.Name) else ""


def _called(call: cst.Call, place: Place, source: Source) -> Layer:
    """A call as a layer: by where it was made, as far as this file shows."""
    cls, made = place.method_of, call.func
    if is_self(made) and cls is not None:
        made = layers_of(cls, source).get(last_word(made), call)
    elif isinstance(made, cst.Name):
        values = assigned_in(place.function, made.value, source)
        made = values[0] if len(values) == 1 else call
    made = made if isinstance(made, cst.Call) else call
    return Layer(call, made, source.name(made.func), last_word(made.func))
