"""These rules are about layers that are made in a call, called without effect, or never called."""

from __future__ import annotations

import re
from collections.abc import Iterable

import libcst as cst
from libcst import matchers as m

from thinned.audit._finding import Edit, Fix
from thinned.audit._guards import guarded
from thinned.audit._names import FUNCTIONS, KERAS_LAYERS, LAYERS, TORCH_LAYERS, TORCH_RNNS
from thinned.audit._nodes import (
    UNKNOWN,
    argument,
    assigned_in,
    dropped,
    is_torch_module,
    layers_of,
    module_class,
    number,
)
from thinned.audit._rule import rule
from thinned.audit._source import Found, Place, Source

_FORWARD = {"forward", "call", "__call__"}
# torch's layers whose function has the same arguments.
_AS_FUNCTION = {
    "torch.nn.Dropout": "dropout",
    "torch.nn.Dropout1d": "dropout1d",
    "torch.nn.Dropout2d": "dropout2d",
    "torch.nn.Dropout3d": "dropout3d",
    "torch.nn.AlphaDropout": "alpha_dropout",
    "torch.nn.FeatureAlphaDropout": "feature_alpha_dropout",
}


@rule(
    "THN106",
    "layer-made-in-forward",
    r"(?s)def (forward|call|__call__)\b(?:(?!\n\s*def |\nclass ).)*?Dropout\w*\s*\(",
)
def _made_in_forward(source: Source) -> Iterable[Found]:
    """A layer that is made inside `forward` is a new one at every call.

    And a new layer is in training mode.
    """
    for place, name in source.called(TORCH_LAYERS | KERAS_LAYERS):
        function = place.function
        if function is None or function.name.value not in _FORWARD or place.method_of is None:
            continue
        if name in TORCH_LAYERS:
            if guarded(place, source):
                continue  # made where the model trains only
            what = "A layer made in forward is always in training mode: it drops in evaluation too."
        else:
            what = "A layer made in call is a new one at every call: its seed and its state are lost."
        yield Found(place.node, what, "Make it in __init__.", _as_function(place, name, source))


def _as_function(place: Place, name: str, source: Source) -> Fix | None:
    """`nn.Dropout(p)(x)` is `F.dropout(x, p, training=self.training)`."""
    outer = place.around[-1]
    if name not in _AS_FUNCTION or not isinstance(outer, cst.Call) or outer.func is not place.node:
        return None
    made = cst.ensure_type(place.node, cst.Call)
    cls = module_class(place, source)
    home = _import_of_torch(source)
    if cls is None or home is None or m.findall(outer, m.Comment()):
        return None  # what a comment says of the layer would be lost
    if len(outer.args) != 1 or outer.args[0].keyword is not None or outer.args[0].star:
        return None
    given = [source.operand(one.value) for one in made.args if one.keyword is None and not one.star]
    named = {one.keyword.value: source.code(one.value) for one in made.args if one.keyword is not None}
    if len(given) + len(named) != len(made.args) or not set(named) <= {"p", "inplace"} or len(given) > 1:
        return None
    rate = given[0] if given else named.get("p", "0.5")
    text = (
        f"{home}.{_AS_FUNCTION[name]}({source.operand(outer.args[0].value)}, {rate}, training=self.training"
    )
    text += f", inplace={named['inplace']})" if "inplace" in named else ")"
    return Fix("call the function with training=self.training", (source.replace(outer, text),), safe=True)


def _import_of_torch(source: Source) -> str | None:
    """The name by which a file has torch.nn.functional."""
    for pattern, spelled in (
        (r"^import torch\.nn\.functional as (\w+)", "{}"),
        (r"^from torch\.nn import functional as (\w+)", "{}"),
        (r"^from torch\.nn import .*\b(functional)\b(?! as)", "{}"),
        (r"^import torch\.nn as (\w+)", "{}.functional"),
        (r"^from torch import .*\b(nn)\b(?! as)", "{}.functional"),
        (r"^import (torch)(?:\.nn)?$", "{}.nn.functional"),
    ):
        found = re.search(pattern, source.text, re.MULTILINE)
        if found:
            return spelled.format(found[1])
    return None


@rule("THN108", "rnn-dropout-in-one-layer", r"\b(LSTM|GRU|RNN)\s*\(", r"dropout\s*=")
def _one_layer(source: Source) -> Iterable[Found]:
    """The `dropout` of an RNN acts between its layers.

    With one layer there is no such place.
    """
    for place, name in source.called(TORCH_RNNS):
        layers = argument(place.node, 2, "num_layers")
        at = 6 if name == "torch.nn.RNN" else 5
        rate = argument(place.node, at, "dropout")
        if rate is UNKNOWN or rate is None or not (layers is None or number(layers) == 1):
            continue
        if number(rate) == 0 or isinstance(rate, cst.IfExp):
            continue
        yield Found(
            place.node,
            f"dropout={source.code(rate)} acts between the layers of nn.{name.rpartition('.')[2]}, and there "
            "is one: nothing is dropped.",
            "Raise num_layers, or put a dropout layer behind it.",
            _without(place.node, "dropout", source),
        )


def _without(call: cst.Call, keyword: str, source: Source) -> Fix | None:
    """Take a keyword argument out of a call; no comment with it."""
    if m.findall(call, m.Comment()):
        return None
    for index, one in enumerate(call.args):
        if one.keyword is not None and one.keyword.value == keyword and index:
            _, begin = source.extent(call.args[index - 1].value)
            _, end = source.extent(one.value)
            return Fix(f"take {keyword}= out", (Edit(begin, end, ""),), safe=False)
    return None


@rule("THN109", "result-not-used", r"(?i)^\s*[\w.]*drop\w*(\([^()\n]*\))?\s*\([^\n]*\)\s*;?\s*(#.*)?$")
def _unused_result(source: Source) -> Iterable[Found]:
    """Dropout returns a new tensor.

    Where the result is not used nothing is dropped.
    """
    for place in source.all(cst.Expr):
        call = place.node.value
        given = dropped(call, Place(call, (*place.around, place.node)), source)
        if given is None or _in_place(call, place, source):
            continue
        fix = None
        if isinstance(given, cst.Name):
            start, _ = source.extent(call)
            fix = Fix("keep the result", (Edit(start, start, f"{given.value} = "),), safe=False)
        yield Found(call, "The result is not used: nothing is dropped.", "Assign it: x = dropout(x, …).", fix)


def _in_place(call: cst.Call, place: Place, source: Source) -> bool:
    if source.name(call.func) in FUNCTIONS:
        given = argument(call, 3, "inplace")
        return given is not None and number(given) is not False
    if isinstance(call.func, cst.Call):
        made = [call.func]
    elif isinstance(call.func, cst.Name):
        made = [
            one for one in assigned_in(place.function, call.func.value, source) if isinstance(one, cst.Call)
        ]
    else:
        cls = place.method_of
        assert cls is not None
        made = [layers_of(cls, source)[call.func.attr.value]]  # type: ignore[attr-defined]
    given = [argument(one, 1, "inplace") for one in made]
    return any(one is not None and number(one) is not False for one in given)


@rule("THN120", "layer-never-called", r"Dropout\w*\s*(\(|as\b)", default=False)
def _never_called(source: Source) -> Iterable[Found]:
    """A layer is made and never called.

    Off by default: a subclass in another file may call it.
    """
    for place in source.all(cst.ClassDef):
        if not is_torch_module(place.node, source):
            continue
        body = source.code(place.node)
        for attribute, call in layers_of(place.node, source).items():
            if source.name(call.func) not in LAYERS:
                continue
            uses = re.findall(rf"\b{re.escape(attribute)}\b", source.text)
            if len(uses) == 1 and "getattr" not in body:
                yield Found(
                    call,
                    f"self.{attribute} is made and never called: nothing is dropped there.",
                    "Call it in forward, or take it out.",
                )


@rule("THN122", "training-passed-as-inplace", r"Dropout\w*\s*\([^)\n]*training")
def _more_arguments(source: Source) -> Iterable[Found]:
    """The second argument of torch's layers is `inplace`, that of its functions `training`."""
    for place, name in source.called(TORCH_LAYERS):
        second = argument(place.node, 1, "")
        if isinstance(second, cst.BaseExpression) and (
            m.matches(second, m.Attribute(attr=m.Name("training"))) or m.matches(second, m.Name("training"))
        ):
            yield Found(
                place.node,
                f"The second argument of nn.{name.rpartition('.')[2]} is inplace, not training.",
                "Take it out: a layer follows model.train() and model.eval().",
            )


RULES = (_made_in_forward, _one_layer, _unused_result, _never_called, _more_arguments)
