"""These rules are about Keras and TensorFlow."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import libcst as cst
from libcst import matchers as m

from thinned.audit._guards import guarded, told_by_caller
from thinned.audit._names import KERAS_LAYERS, TF1_LAYER_FUNCTION, TF_FUNCTION
from thinned.audit._nodes import UNKNOWN, argument, assigned_in, last_word, number
from thinned.audit._rule import rule
from thinned.audit._source import Found, Place, Source

_LAYER_BASE = re.compile(r"(Layer|Model|Module|Block|Cell|Network)$")


def _keras_class(place: Place, source: Source) -> bool:
    cls = place.method_of
    return (
        cls is not None
        and place.function is not None
        and place.function.name.value in {"call", "__call__"}
        and any(
            source.name(base.value).startswith(("keras", "tensorflow"))
            or _LAYER_BASE.search(last_word(base.value))
            for base in cls.bases
        )
    )


@rule("THN202", "tf-dropout-in-evaluation", r"\bdropout\s*(\(|as\b)", r"tensorflow", r"def (call|__call__)\b")
def _unguarded(source: Source) -> Iterable[Found]:
    """`tf.nn.dropout` knows no mode: in a layer's `call` without a condition it drops in evaluation too."""
    for place, _ in source.called(TF_FUNCTION):
        rate = argument(place.node, 1, "rate")
        if _keras_class(place, source) and not guarded(place, source) and number(rate) != 0:
            if isinstance(rate, cst.BaseExpression) and re.search(r"(?i)train|if ", source.code(rate)):
                continue
            if told_by_caller(rate, place, source):
                continue
            yield Found(
                place.node,
                "tf.nn.dropout in call without asking for training drops in evaluation too.",
                "Put it behind `if training:`, or use keras.layers.Dropout.",
            )


@rule("THN203", "one-seed-for-two-layers", r"(?s)Dropout.*seed\s*=\s*\d.*seed\s*=\s*\d", r"keras")
def _one_seed(source: Source) -> Iterable[Found]:
    """A seed is the whole state of a Keras layer's generator.

    Two layers with one seed drop the same elements.
    """
    seen: dict[tuple[object, str, object], list[Place]] = defaultdict(list)
    for place, name in source.called(KERAS_LAYERS):
        seed = number(argument(place.node, None, "seed"))
        if seed is not UNKNOWN and seed is not None:
            seen[place.function or place.within(cst.ClassDef), name, seed].append(place)
    for (_, name, seed), places in seen.items():
        for place in places[1:]:
            if _alternatives(places[0], place):
                continue
            yield Found(
                place.node,
                f"Two {name.rpartition('.')[2]} layers have seed={seed}: they drop the same elements.",
                "Give each layer a seed of its own, or None.",
            )


def _alternatives(first: Place, second: Place) -> bool:
    """Tells whether only one of two places can run: branches of one condition."""
    for outer, then in zip(first.around, first.around[1:], strict=False):
        if isinstance(outer, (cst.If, cst.IfExp)) and outer in second.around:
            other = second.around[second.around.index(outer) + 1 :][:1]
            if other and other[0] is not then:
                return True
    return False


@rule("THN205", "monte-carlo-by-training-true", r"training\s*=\s*True", r"\b(keras|tensorflow)\b", r"range\(")
def _by_training(source: Source) -> Iterable[Found]:
    """`model(x, training=True)` switches on more than dropout.

    Batch normalisation takes the statistics of the batch, and moves its own.
    """
    for place in source.all(cst.Call):
        if number(argument(place.node, None, "training")) is not True or len(place.node.args) < 2:
            continue
        loop = place.within(cst.ListComp) or place.within(cst.GeneratorExp) or place.within(cst.For)
        function = place.function
        around = source.code(function or (*place.around, place.node)[1])
        trains = re.search(r"GradientTape|apply_gradients|value_and_grad|\.backward\(|optimizer", around)
        if loop is None or trains or not isinstance(place.node.func, (cst.Name, cst.Attribute)):
            continue
        if source.name(place.node.func) or (
            function is not None and function.name.value in {"call", "__call__"}
        ):
            continue
        over = loop.for_in.iter if isinstance(loop, (cst.ListComp, cst.GeneratorExp)) else loop.iter
        target = loop.for_in.target if isinstance(loop, (cst.ListComp, cst.GeneratorExp)) else loop.target
        counted = m.matches(over, m.Call(func=m.Name("range"))) and last_word(target) not in _names_in(
            place.node
        )
        if counted and not _of_one_layer(place, source) and _kept(loop):
            yield Found(
                place.node,
                "training=True is more than dropout: batch normalisation takes the batch's statistics and "
                "moves its own.",
                "Use thinned.mc.keras.predict.",
            )


def _of_one_layer(place: Place, source: Source) -> bool:
    """Tells whether what is called is a single layer of Keras, as its tests call one."""
    made = [place.node.func]
    if isinstance(place.node.func, cst.Name):
        made = assigned_in(place.function, place.node.func.value, source)  # type: ignore[assignment]
    names = [source.name(one.func) for one in made if isinstance(one, cst.Call)]
    return any(name.startswith("keras.layers.") for name in names)


def _kept(loop: cst.CSTNode) -> bool:
    """Tells whether all rounds' results are kept: a comprehension, or a loop that adds to others."""
    adds = m.Call(func=m.Attribute(attr=m.Name("append") | m.Name("write"))) | m.AugAssign()
    stores = m.AssignTarget(target=m.Subscript())
    return not isinstance(loop, cst.For) or bool(m.findall(loop.body, adds | stores))


def _names_in(call: cst.Call) -> set[str]:
    return {one.value for one in m.findall(call, m.Name())}  # type: ignore[attr-defined]


@rule("THN207", "layer-called-with-training-true", r"training\s*=\s*True", default=False)
def _constant(source: Source) -> Iterable[Found]:
    """`training=True` written into `call` drops in evaluation too.

    Off by default: Monte Carlo dropout is written so on purpose.
    """
    for place in source.all(cst.Call):
        constant = number(argument(place.node, None, "training")) is True
        if constant and _keras_class(place, source) and re.search(r"(?i)drop", last_word(place.node.func)):
            yield Found(
                place.node,
                "training=True drops in evaluation too.",
                "Pass the training that call was given; for Monte Carlo use thinned.mc.keras.predict.",
            )


@rule("THN212", "tf1-layer-never-on", r"\bdropout\s*(\(|as\b)", r"tensorflow")
def _layer_function(source: Source) -> Iterable[Found]:
    """`tf.compat.v1.layers.dropout` does not drop unless it is told to."""
    for place, _ in source.called(TF1_LAYER_FUNCTION):
        if argument(place.node, 4, "training") is None:
            yield Found(
                place.node,
                "tf.compat.v1.layers.dropout without training= never drops: its default is False.",
                "Pass training=….",
            )


RULES = (_unguarded, _one_seed, _by_training, _constant, _layer_function)
