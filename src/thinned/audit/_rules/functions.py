"""These rules are about PyTorch's functions, which cannot see `model.eval()`."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from thinned.audit._finding import Fix
from thinned.audit._guards import TRAINING, guarded, told_by_caller
from thinned.audit._names import ATTENTION, MULTI_HEAD, TORCH_ALPHA_FUNCTIONS, TORCH_FUNCTIONS
from thinned.audit._nodes import UNKNOWN, argument, assigned_in, module_class, number, parameters, says
from thinned.audit._rule import rule
from thinned.audit._source import Found, Place, Source


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _by_training(place: Place, source: Source) -> Fix | None:
    """Pass `training=self.training`, where `self` is a module."""
    if module_class(place, source) is None:
        return None
    edit = source.insert_argument(place.node, "training=self.training")
    return Fix("pass training=self.training", (edit,), safe=True)


# A call of a function, not of a method of self, which is mostly a layer.
_CALL = r"(?<!\bself)(?<!\bdef)[.\s(=\[,]dropout[123]?d?\s*"
_FUNCTION = _CALL + r"(\(|as\b)"
# The same where the parentheses say nothing of training.
_INSIDE = r"(?:[^()]|\([^()]*\))*"
_SILENT = rf"{_CALL}(\((?!{_INSIDE}\btraining\b)|as\b)"
_FIVE = r",[^,()]*,[^,()]*,[^,()]*,"  # the fifth argument is the rate
_ATTENTION = rf"scaled_dot_product_attention\s*(\((?!{_INSIDE}\btraining\b){_INSIDE}?(dropout|{_FIVE})|as\b)"


@rule("THN101", "functional-dropout-in-evaluation", _SILENT, r"torch")
def _drops_in_evaluation(source: Source) -> Iterable[Found]:
    """A functional dropout has no mode: without `training=` it drops in evaluation too."""
    for place, name in source.called(TORCH_FUNCTIONS):
        call = place.node
        rate = argument(call, 1, "p")
        if argument(call, 2, "training") is not None or guarded(place, source) or number(rate) == 0:
            continue
        if not told_by_caller(rate, place, source):
            yield Found(
                call,
                f"F.{_last(name)} without training= drops in evaluation too: its default is True.",
                "Pass training=self.training.",
                _by_training(place, source),
            )


@rule("THN102", "alpha-dropout-never-on", r"alpha_dropout\s*(\(|as\b)")
def _never_drops(source: Source) -> Iterable[Found]:
    """`F.alpha_dropout` and `F.feature_alpha_dropout` do not drop unless they are told to.

    Their default is `training=False`, where `F.dropout` has True.
    """
    for place, name in source.called(TORCH_ALPHA_FUNCTIONS):
        if argument(place.node, 2, "training") is None:
            yield Found(
                place.node,
                f"F.{_last(name)} without training= never drops: its default is False.",
                "Pass training=self.training.",
                _by_training(place, source),
            )


@rule("THN103", "training-is-a-constant", _FUNCTION, r"\bTrue\b", default=False)
def _constant_training(source: Source) -> Iterable[Found]:
    """`training=True` written into a module drops in evaluation too.

    Off by default: Monte Carlo dropout is written so on purpose.
    """
    for place, _ in source.called(TORCH_FUNCTIONS):
        given = argument(place.node, 2, "training")
        if number(given) is True and module_class(place, source) is not None and not guarded(place, source):
            edit = source.replace(given, "self.training")
            yield Found(
                place.node,
                "training=True drops in evaluation too.",
                "Pass training=self.training; for Monte Carlo dropout use thinned.mc.active.",
                Fix("pass self.training", (edit,), safe=False),
            )


@rule("THN104", "attention-dropout-in-evaluation", _ATTENTION)
def _attention(source: Source) -> Iterable[Found]:
    """`scaled_dot_product_attention` drops whenever `dropout_p` is not 0, and knows no mode."""
    for place, _ in source.called(ATTENTION):
        given = argument(place.node, 4, "dropout_p")
        if _depends_on_mode(given, place, source):
            continue
        fix = None
        if module_class(place, source) is not None:
            text = source.code(given)
            atom = bool(given.lpar) or isinstance(given, (cst.Name, cst.Attribute, cst.Call, cst.BaseNumber))
            edit = source.replace(given, f"{text if atom else f'({text})'} if self.training else 0.0")
            fix = Fix("drop in training only", (edit,), safe=True)
        yield Found(
            place.node,
            "scaled_dot_product_attention drops whenever dropout_p is not 0, in evaluation too.",
            "Pass dropout_p=p if self.training else 0.0.",
            fix,
        )


def _depends_on_mode(given: object, place: Place, source: Source) -> bool:
    """Tells whether a dropout_p may be 0 in evaluation, as far as this file shows."""
    if not isinstance(given, cst.BaseExpression):
        return True
    constant = number(given)
    if constant is not UNKNOWN:
        return not constant or guarded(place, source)
    if says(given, TRAINING, source) or guarded(place, source):
        return True
    if isinstance(given, cst.Name):
        if place.function is not None and given.value in parameters(place.function):
            return True  # the caller's to say
        values = assigned_in(place.function, given.value, source)
        return not values or any(_depends_on_mode(value, place, source) for value in values)
    # An attribute of self is the rate itself where this file gives it one; a call may be anything.
    return not isinstance(given, (cst.Attribute, cst.BinaryOperation))


@rule("THN105", "functional-attention-in-evaluation", r"multi_head_attention_forward")
def _multi_head(source: Source) -> Iterable[Found]:
    """`F.multi_head_attention_forward` trains by default."""
    for place, _ in source.called(MULTI_HEAD):
        rate = argument(place.node, 10, "dropout_p")
        if argument(place.node, 13, "training") is None and number(rate) != 0 and not guarded(place, source):
            yield Found(
                place.node,
                "multi_head_attention_forward without training= drops in evaluation too.",
                "Pass training=self.training.",
                _by_training(place, source),
            )


RULES = (_drops_in_evaluation, _never_drops, _constant_training, _attention, _multi_head)
