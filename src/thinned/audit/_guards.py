"""This file tells whether code runs in training alone: by conditions, early returns, a caller's rates."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst
from libcst import matchers as m

from thinned.audit._nodes import assigned_in, last_word, parameters, says
from thinned.audit._source import Place, Source

# Methods that a framework calls.
_ENTRIES = frozenset({"forward", "call", "__call__", "apply"})
# What asks for the mode; an argument that is a switch asks for it too, a setting of self does not.
TRAINING = re.compile(
    r"train|determin|eval|infer|is_test|test_mode|is_dev|phase|mode\b"
    r"|(?<![.\w])(?:(?:use|apply|do|enable|with)_drop\w*|drop\w*_(?:switch|on|flag))\b",
    re.IGNORECASE,
)


def guarded(
    place: Place, source: Source, word: re.Pattern[str] = TRAINING, seen: tuple[cst.FunctionDef, ...] = ()
) -> bool:
    """Tells whether a condition, an early return, or all callers of a node ask for the mode."""
    inner: cst.CSTNode = place.node
    for outer in reversed(place.around):
        if (
            isinstance(outer, (cst.If, cst.IfExp))
            and inner is not outer.test
            and says(outer.test, word, source)
        ):
            return True
        if isinstance(outer, cst.IndentedBlock) and _left_early(outer, inner, word, source):
            return True
        if isinstance(outer, cst.FunctionDef):
            return bool(word.search(outer.name.value)) or _called_guarded((*seen, outer), source, word)
        if isinstance(outer, cst.Lambda):
            return False
        inner = outer
    return False


def _called_guarded(seen: tuple[cst.FunctionDef, ...], source: Source, word: re.Pattern[str]) -> bool:
    """Tells whether the last function seen is called, always behind a condition that asks for the mode."""
    name = seen[-1].name.value
    if name in _ENTRIES:
        return False
    calls = [one for one in source.all(cst.Call) if last_word(one.node.func) == name]
    outside = [one for one in calls if one.function not in seen]
    return bool(outside) and all(guarded(one, source, word, seen) for one in outside)


def _left_early(block: cst.IndentedBlock, inner: cst.CSTNode, word: re.Pattern[str], source: Source) -> bool:
    for statement in block.body:
        if statement is inner:
            return False
        if isinstance(statement, cst.If) and says(statement.test, word, source):
            last = statement.body.body[-1] if statement.body.body else None
            if m.matches(last, m.SimpleStatementLine(body=[m.ZeroOrMore(), m.Return() | m.Raise()])):  # type: ignore[arg-type]
                return True
    return False


def told_by_caller(rate: Any, place: Place, source: Source) -> bool:
    """Tells whether a rate is a parameter, made of one, or set by the mode: in evaluation it may be 0."""
    if not isinstance(rate, cst.Name) or place.function is None:
        return False
    handed_over = parameters(place.function) - {"self"}
    values = assigned_in(place.function, rate.value, source)
    names = {one.value for value in values for one in m.findall(value, m.Name())}  # type: ignore[attr-defined]
    return (
        rate.value in handed_over
        or bool(names & handed_over)
        or any(says(one, TRAINING, source) for one in values)
    )
