"""This file reads from a function's jaxpr which dropouts it reaches, and whether its key does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from thinned.jax import _philox
from thinned.jax._attend import attend_p
from thinned.jax._compat import ClosedJaxpr, Jaxpr, Literal
from thinned.jax._numbers import words_p
from thinned.jax._primitive import dropout_p, keep_p

# Where the key is among a primitive's operands; the threshold follows, but for `words_p`.
_OPERANDS: dict[Any, Callable[[Any], int]] = {
    dropout_p: lambda equation: 1,
    keep_p: lambda equation: 0,
    words_p: lambda equation: 0,
    attend_p: lambda equation: equation.params["spec"].names.index("key"),
}


class Found(NamedTuple):
    """A dropout: its p, None where it is computed in the function, and whether the key reaches its key."""

    p: float | None
    keyed: bool


class Known(NamedTuple):
    """Holds what is known of a variable: its value, and whether it depends on the key."""

    value: Any
    keyed: bool


_UNKNOWN = Known(None, False)


def sites(closed: Any, keyed: int) -> list[Found]:
    """The dropouts of a closed jaxpr whose last so many arguments are the key, in order."""
    plain = len(closed.jaxpr.invars) - keyed
    arguments = [_UNKNOWN] * plain + [Known(None, True)] * keyed
    return list(_walk(closed.jaxpr, [Known(value, False) for value in closed.consts], arguments))


def _walk(jaxpr: Any, consts: list[Known], arguments: list[Known]) -> Iterator[Found]:
    known: dict[Any, Known] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def of(atom: Any) -> Known:
        return Known(atom.val, False) if isinstance(atom, Literal) else known.get(atom, _UNKNOWN)

    for equation in jaxpr.eqns:
        operands = [of(atom) for atom in equation.invars]
        keyed = any(operand.keyed for operand in operands)
        known.update((var, Known(None, keyed)) for var in equation.outvars)
        if equation.primitive in _OPERANDS:
            at = _OPERANDS[equation.primitive](equation)
            known_p = None if equation.primitive is words_p else _probability(operands[at + 1].value)
            yield Found(known_p, operands[at].keyed)
        for body, values in _inner(equation.params):
            fits = len(body.invars) == len(operands)
            inside = operands if fits else [Known(None, keyed)] * len(body.invars)
            yield from _walk(body, values, inside)


def _inner(parameters: dict[str, Any]) -> Iterator[tuple[Any, list[Known]]]:
    """The jaxprs that an equation holds, with what is known of their constants."""
    for value in parameters.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr, [Known(const, False) for const in one.consts]
            elif isinstance(one, Jaxpr):
                yield one, [_UNKNOWN] * len(one.constvars)


def _probability(threshold: Any) -> float | None:
    if threshold is None or isinstance(threshold, jax.core.Tracer) or np.ndim(threshold) != 1:
        return None
    with jax.enable_x64(True):
        return float(_philox.pair(np.asarray(threshold))) / 2.0**32


def silence(found: list[Found]) -> str:
    """Tells why all samples are equal."""
    if not found:
        return (
            "all samples are equal: apply reached no dropout of this library. Switch it on "
            "(deterministic=False, or training=True); jax.random's own draws by the keys it is given, and "
            "needs one made of apply's key: thinned.mc.jax.random_key"
        )
    listed = ", ".join(
        f"{n}: p = {'computed in apply' if one.p is None else f'{one.p:.6g}'}, "
        f"{'keyed by' if one.keyed else 'not reached by'} apply's key"
        for n, one in enumerate(found)
    )
    remedy = (
        "derive each site's key from apply's: thinned.jax.fold(key, n)"
        if not any(one.keyed for one in found)
        else "the outputs do not depend on what they drop, or p is too small for these samples"
    )
    return f"all samples are equal, although apply reached {len(found)} dropouts ({listed}): {remedy}"
