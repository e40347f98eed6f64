"""These rules are about training and evaluation modes that are set for a part, or never set back."""

from __future__ import annotations

import re
from collections.abc import Iterable

import libcst as cst
from libcst import matchers as m

from thinned.audit._finding import Edit, Fix
from thinned.audit._names import TORCH_LAYERS
from thinned.audit._nodes import UNKNOWN, argument, last_word, number
from thinned.audit._rule import rule
from thinned.audit._source import Found, Place, Source

_BACKWARD = m.Call(func=m.Attribute(attr=m.Name("backward")))
_SEEDS = frozenset({"torch.manual_seed", "tensorflow.random.set_seed", "torch.random.manual_seed"})
_FORWARD = {"forward", "call", "__call__"}


def _method(name: str) -> m.Call:
    return m.Call(func=m.Attribute(attr=m.Name(name)))


@rule("THN115", "mode-method-not-called", r"\.(eval|train)\s*(#.*)?$")
def _not_called(source: Source) -> Iterable[Found]:
    """`model.eval` names the method and does not call it."""
    for place in source.all(cst.Expr):
        value = place.node.value
        if m.matches(value, m.Attribute(attr=m.Name("eval") | m.Name("train"))):
            _, end = source.extent(value)
            yield Found(
                value,
                f"{source.code(value)} without () does nothing: the model stays in the mode that it is in.",
                f"Write {source.code(value)}().",
                Fix("call it", (Edit(end, end, "()"),), safe=True),
            )


@rule("THN116", "training-goes-on-in-evaluation", r"\.eval\(", r"\.backward\(")
def _never_back(source: Source) -> Iterable[Found]:
    """A loop that calls `eval()` after each round.

    `train()` only before the first one trains without dropout from its second round on.
    """
    for place in (*source.all(cst.For), *source.all(cst.While)):
        body = place.node.body
        evals = [one for one in m.findall(body, _method("eval")) if not one.args]  # type: ignore[attr-defined]
        if not evals or not m.findall(body, _BACKWARD) or _trains_again(body):
            continue
        yield Found(
            evals[0],
            "The loop trains after this eval() without train(): from its second round on nothing is dropped.",
            "Call train() at the beginning of each round.",
        )


def _trains_again(body: cst.CSTNode) -> bool:
    """Tells whether a loop calls `train()`, or a function that says by its name that it does."""
    return any(re.search(r"(?i)train", last_word(one.func)) for one in m.findall(body, m.Call()))  # type: ignore[attr-defined]


@rule("THN117", "evaluation-without-eval", r"(no_grad|inference_mode)\(", default=False)
def _no_eval(source: Source) -> Iterable[Found]:
    """A function that evaluates a model by its name and never calls `eval()` evaluates with dropout.

    Unless its caller was careful. Off by default: the caller often is.
    """
    for place in source.all(cst.FunctionDef):
        function = place.node
        if not re.search(r"(?i)^(eval|evaluate|validate|valid|test|predict|inference)", function.name.value):
            continue
        if source.name(function) or place.method_of is not None or function.name.value.startswith("test_"):
            continue
        parameters = {one.name.value for one in function.params.params}
        models = parameters & {"model", "net", "network", "module", "encoder", "classifier"}
        no_grad = re.search(r"\b(no_grad|inference_mode)\(", source.code(function))
        if models and no_grad and not m.findall(function, _method("eval") | _method("train")):
            yield Found(
                function.name,
                f"{function.name.value} computes without gradients and never calls eval(): dropout stays on "
                "where the caller left it on.",
                f"Call {min(models)}.eval() first.",
            )


@rule("THN118", "layers-found-by-class-name", r"(?i)__name__.{0,40}drop|drop.{0,40}__name__")
def _by_name(source: Source) -> Iterable[Found]:
    """Layers that are found by the name of their class are not all that drops."""
    for place in (*source.all(cst.Call), *source.all(cst.Comparison)):
        text = source.code(place.node)
        if len(text) > 200 or not re.search(r"__class__\.__name__|type\(\w+\)\.__name__", text):
            continue
        if not re.search(r"""["']_?Dropout""", text):
            continue
        if isinstance(place.node, cst.Call) and not m.matches(place.node, _method("startswith")):
            continue
        block = place.within(cst.If)
        if block is not None and m.findall(block.body, _method("train")):
            yield Found(
                place.node,
                "Layers named Dropout… are not all that drops: functional dropout, attention and LSTM rates "
                "stay off.",
                "Use thinned.mc.active(model), which reaches them and says what it cannot reach.",
            )


@rule("THN119", "layers-found-by-one-class", r"isinstance\(.{0,60}Dropout")
def _by_class(source: Source) -> Iterable[Found]:
    """`isinstance(m, nn.Dropout)` finds one class.

    `nn.Dropout2d` and the others are no subclasses of it.
    """
    for place, _ in source.calls:
        if not m.matches(place.node, m.Call(func=m.Name("isinstance"), args=[m.Arg(), m.Arg()])):
            continue
        kinds = place.node.args[1].value
        if isinstance(kinds, cst.Tuple) or source.name(kinds) not in TORCH_LAYERS:
            continue
        block = place.within(cst.If)
        if (
            block is not None
            and place.node in m.findall(block.test, m.Call())
            and _trains(block, place, source)
        ):
            yield Found(
                place.node,
                f"{source.code(kinds)} is one class of dropout: Dropout2d, attention and LSTMs stay off.",
                "Use thinned.mc.active(model), which reaches them and says what it cannot reach.",
            )


def _trains(block: cst.If, place: Place, source: Source) -> bool:
    subject = source.code(place.node.args[0].value)
    calls = m.findall(block.body, _method("train"))
    return any(source.code(one.func.value) == subject for one in calls)  # type: ignore[attr-defined]


@rule("THN124", "rate-set-to-zero-for-good", r"isinstance\(.{0,60}Dropout")
def _zeroed(source: Source) -> Iterable[Found]:
    """`m.p = 0` for an evaluation outlasts it: when training goes on nothing is dropped."""
    for place in source.all(cst.Assign):
        target = place.node.targets[0].target
        if (
            not m.matches(target, m.Attribute(value=m.Name(), attr=m.Name("p")))
            or number(place.node.value) != 0
        ):
            continue
        block = place.within(cst.If)
        if block is None or not re.search(r"isinstance\(.*Dropout", source.code(block.test)):
            continue
        yield Found(
            place.node,
            "p = 0 outlasts the evaluation: when training goes on nothing is dropped.",
            "Call model.eval(), and model.train() afterwards.",
        )


@rule("THN125", "checkpoint-without-rng-state", r"preserve_rng_state\s*=\s*False")
def _no_state(source: Source) -> Iterable[Found]:
    """A checkpoint computes its part again in the backward pass.

    Without the generator's state it draws another mask there.
    """
    names = ("torch.utils.checkpoint.checkpoint", "torch.utils.checkpoint.checkpoint_sequential")
    for place, _ in source.called(*names):
        given = argument(place.node, None, "preserve_rng_state")
        if number(given) is False:
            edit = source.replace(given, "True")
            yield Found(
                place.node,
                "Without the generator's state the recomputation draws another mask than the forward pass: "
                "gradients are wrong.",
                "Leave preserve_rng_state at True.",
                Fix("preserve_rng_state=True", (edit,), safe=True),
            )


@rule("THN127", "seed-set-in-forward", r"(manual_seed|set_seed)\s*\(", r"def (forward|call|__call__)\b")
def _seeded(source: Source) -> Iterable[Found]:
    """A seed that is set inside `forward` makes every call drop the same elements."""
    for place, name in source.called(_SEEDS):
        function = place.function
        if function is None or function.name.value not in _FORWARD or place.method_of is None:
            continue
        if number(argument(place.node, 0, "seed")) is not UNKNOWN:
            yield Found(
                place.node,
                f"{name} in {function.name.value} with a constant: every call drops the same elements.",
                "Set the seed once, before the model is made.",
            )


RULES = (
    _not_called,
    _never_back,
    _no_eval,
    _by_name,
    _by_class,
    _zeroed,
    _no_state,
    _seeded,
)
