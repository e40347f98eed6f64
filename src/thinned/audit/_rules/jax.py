"""These rules are about JAX (Flax, Haiku and Equinox), where randomness is a key that is passed on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import libcst as cst
from libcst import matchers as m

from thinned.audit._guards import guarded
from thinned.audit._names import HAIKU_FUNCTION
from thinned.audit._nodes import UNKNOWN, argument, assigned_in, is_layer, number
from thinned.audit._rule import rule
from thinned.audit._source import Found, Place, Source

_DROPS = frozenset({"equinox.nn.Dropout", "flax.linen.Dropout", "flax.nnx.Dropout"})
_MAKERS = frozenset({"jax.random.PRNGKey", "jax.random.key"})
_EXIT = m.Return() | m.Raise()


def _key_of(place: Place, name: str, source: Source) -> cst.BaseExpression | None:
    """The key that a call of dropout is given."""
    given = None
    if name == HAIKU_FUNCTION:
        given = argument(place.node, 0, "rng")
    elif name == "thinned.jax.dropout":
        given = argument(place.node, None, "key")
    elif is_layer(place.node.func, place, source, _DROPS):
        for keyword in ("key", "rng"):  # nnx's rngs count their calls
            given = argument(place.node, None, keyword) or given
    return given if isinstance(given, cst.BaseExpression) else None


@rule("THN301", "one-key-for-two-calls", r"(?i)dropout", r"\b(haiku|equinox|flax|jax)\b")
def _one_key(source: Source) -> Iterable[Found]:
    """JAX's keys are used up by one call: two calls with one key drop the same elements."""
    used: dict[tuple[object, str], Place] = {}
    for place, name in source.calls:
        key = _key_of(place, name, source)
        if not isinstance(key, cst.Name) or place.function is None:
            continue
        before = used.get((place.function, key.value))
        if (
            before is not None
            and not _renewed(before, place, key.value, source)
            and not _exclusive(before, place)
        ):
            yield Found(
                place.node,
                f"{key.value} was the key of a call before: both drop the same elements.",
                f"Split it: {key.value}, other = jax.random.split({key.value}).",
            )
        used[place.function, key.value] = place


def _renewed(before: Place, after: Place, name: str, source: Source) -> bool:
    """Tells whether the name is assigned between two places."""
    begin, end = source.range(before.node)[1], source.range(after.node)[0]
    for place in (*source.all(cst.Assign), *source.all(cst.For)):
        if place.function is not before.function:
            continue
        targets = (
            [one.target for one in place.node.targets]
            if isinstance(place.node, cst.Assign)
            else [place.node.target]
        )
        bound = any(one.value == name for target in targets for one in m.findall(target, m.Name()))  # type: ignore[attr-defined]
        if bound and begin <= source.range(place.node)[0] <= end:
            return True
    return False


def _exclusive(first: Place, second: Place) -> bool:
    """Tells whether only one of two places runs: other branches, or a return after the first."""
    for index, outer in enumerate(first.around):
        inner = first.around[index + 1] if index + 1 < len(first.around) else first.node
        if isinstance(outer, (cst.If, cst.IfExp, cst.Try)) and outer in second.around:
            at = second.around.index(outer) + 1
            other = second.around[at] if at < len(second.around) else second.node
            if other is not inner:
                return True
        if isinstance(outer, cst.IndentedBlock) and outer not in second.around and outer.body:
            last = outer.body[-1]
            if m.matches(last, m.SimpleStatementLine(body=[m.ZeroOrMore(), _EXIT])):
                return True
        if isinstance(outer, cst.Return):
            return True
    return False


@rule("THN302", "flax-dropout-without-deterministic", r"Dropout\s*(\(|as\b)", r"flax")
def _no_mode(source: Source) -> Iterable[Found]:
    """Linen's `Dropout` must be told `deterministic`, where it is made or where it is called."""
    for place, _ in source.called("flax.linen.Dropout"):
        outer = place.around[-1]
        called = isinstance(outer, cst.Call) and outer.func is place.node
        if not called or argument(place.node, 2, "deterministic") is not None:
            continue
        if argument(outer, 1, "deterministic") is None:  # type: ignore[arg-type]
            yield Found(
                place.node,
                "linen's Dropout is not told deterministic, where it is made or called: it fails.",
                "Pass deterministic=not train.",
            )


@rule("THN303", "deterministic-is-false", r"deterministic\s*=\s*False", default=False)
def _constant(source: Source) -> Iterable[Found]:
    """`deterministic=False` written into a module drops in evaluation too.

    Off by default: Monte Carlo dropout is written so on purpose.
    """
    for place, name in source.calls:
        function = place.function
        if function is None or function.name.value != "__call__" or place.method_of is None:
            continue
        drops = name in _DROPS or is_layer(place.node.func, place, source, _DROPS)
        if drops and number(argument(place.node, 2, "deterministic")) is False and not guarded(place, source):
            yield Found(
                place.node,
                "deterministic=False drops in evaluation too.",
                "Pass deterministic=not train; for Monte Carlo dropout use thinned.mc.jax.predict.",
            )


@rule("THN304", "haiku-dropout-in-evaluation", r"dropout\s*\(", r"haiku")
def _haiku(source: Source) -> Iterable[Found]:
    """`hk.dropout` knows no mode."""
    for place, _ in source.called(HAIKU_FUNCTION):
        rate = argument(place.node, 1, "rate")
        if guarded(place, source) or place.function is None or number(rate) == 0:
            continue
        if isinstance(rate, cst.Name):
            values = [source.code(one) for one in assigned_in(place.function, rate.value, source)]
            parameters = {one.name.value for one in place.function.params.params}
            if rate.value in parameters or any(re.search(r"(?i)train|\bif\b", value) for value in values):
                continue
        if isinstance(rate, cst.BaseExpression) and re.search(r"(?i)train|\bif\b", source.code(rate)):
            continue
        yield Found(
            place.node,
            "hk.dropout knows no mode: without a condition around it it drops in evaluation too.",
            "Put it behind `if is_training:`.",
        )


@rule("THN305", "one-key-for-all-steps", r"rngs\s*=\s*\{[^}]*dropout")
def _in_a_loop(source: Source) -> Iterable[Found]:
    """Finds one key that serves all steps of a loop.

    The same elements are dropped at every step, and one fixed part of the network is trained.
    """
    for place in source.all(cst.Call):
        loop = place.within(cst.For) or place.within(cst.While)
        rngs = argument(place.node, None, "rngs")
        if (
            loop is None
            or not isinstance(rngs, cst.Dict)
            or place.within(cst.FunctionDef) is not _function_of(loop, source)
        ):
            continue
        for key in _entries(rngs, "dropout"):
            if not isinstance(key, cst.Name) or key.value in _bound_in(loop):
                continue
            yield Found(
                key,
                f"{key.value} is the same in every round of the loop: every step drops the same elements.",
                f"Pass jax.random.fold_in({key.value}, step).",
            )


def _function_of(loop: cst.For | cst.While, source: Source) -> cst.FunctionDef | None:
    for place in (*source.all(cst.For), *source.all(cst.While)):
        if place.node is loop:
            return place.function
    return None


def _entries(rngs: cst.Dict, name: str) -> Iterator[cst.BaseExpression]:
    for one in rngs.elements:
        if isinstance(one, cst.DictElement) and m.matches(
            one.key, m.SimpleString(value=m.MatchIfTrue(lambda text: text.strip("\"'") == name))
        ):
            yield one.value


def _bound_in(loop: cst.For | cst.While) -> set[str]:
    assigned: Any = m.findall(loop.body, m.AssignTarget())
    counted: Any = m.findall(loop, m.For())
    targets = [each.target for each in (*assigned, *counted)]
    names: Any = [name for target in targets for name in m.findall(target, m.Name())]
    return {name.value for name in names}


@rule("THN308", "key-is-a-constant", r"PRNGKey\s*\(|random\.key\s*\(")
def _constant_key(source: Source) -> Iterable[Found]:
    """A key that is made of a constant inside a call is the same at every call."""
    for place, name in source.calls:
        key = _key_of(place, name, source)
        function = place.function
        if (
            key is None
            or function is None
            or not isinstance(key, cst.Call)
            or source.name(key.func) not in _MAKERS
        ):
            continue
        if number(argument(key, 0, "seed")) is not UNKNOWN and function.name.value in {"__call__", "forward"}:
            yield Found(
                key,
                "The key is made here of a constant: every call drops the same elements.",
                "Take the key as an argument, or from self.make_rng.",
            )


RULES = (_one_key, _no_mode, _constant, _haiku, _in_a_loop, _constant_key)
