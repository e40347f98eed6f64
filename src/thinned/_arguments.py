"""This file has what every front end asks of the arguments that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

from thinned.contract import Key, check_integer, check_probability, inverse_scale, keep_probability, threshold

DROP_ALL: Final = 2**32
SELU_LIMIT = -1.7580993408473766  # α' of alpha dropout, SELU at minus infinity: −λα
UNUSED: Final = Key(0)  # a key where nothing is drawn


class _Required:
    """The default of an argument that has none, so that its absence can be explained."""

    def __repr__(self) -> str:
        return "<required>"

    def __reduce__(self) -> str:
        return "REQUIRED"  # what is unpickled is again the one there is


REQUIRED: Final[Any] = _Required()

IDENTITY: Final = (0, 1.0)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def requires_training(verb: Verb) -> Verb:
    """Give a verb's `training`, which has no default for type checkers, the default `REQUIRED` at run time.

    It is a keyword, or the last of the positional arguments without a default. The verb itself is returned.
    """
    function: Any = verb
    code = function.__code__
    if "training" in code.co_varnames[code.co_argcount :]:
        function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), "training": REQUIRED}
    else:
        function.__defaults__ = (REQUIRED, *(function.__defaults__ or ()))
    return verb


def check_key(key: Any, name: str = "key") -> Key:
    """The key, if it is one."""
    if not isinstance(key, Key):
        raise TypeError(f"{name} must be a thinned.Key, got {key!r}: make one with thinned.Key(seed)")
    return key


def signed(word: int) -> int:
    """A seed or stream as an int64 tensor holds it, in two's complement."""
    return word - 2**64 if word >= 2**63 else word


def check_training(training: Any) -> bool:
    """Tells whether to drop; a functional call cannot know it by itself."""
    if training is REQUIRED:
        raise TypeError(
            "training is missing: pass training=self.training (or True to drop, False to evaluate): "
            "a functional dropout cannot see model.eval()"
        )
    if training is None or isinstance(training, str):
        raise TypeError(f"training must be True to drop or False to evaluate, got {training!r}")
    return bool(training)


def check_tokens(replacement: Any, protected: Any, dtype: str | None = None) -> tuple[int, ...]:
    """Refuse what is no token: a number that the tokens' dtype has not would become another one.

    Returns:
        The replacement and what is protected.
    """
    if isinstance(protected, str) or not hasattr(protected, "__iter__"):
        raise TypeError(f"protected must be a tuple of tokens, got {protected!r}")
    tokens = check_integer("replacement", replacement), *(check_integer("protected", t) for t in protected)
    if dtype is not None:
        bits = int(dtype.lstrip("uint"))
        low, high = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for place, token in enumerate(tokens):
            if not low <= token <= high:
                name = "protected" if place else "replacement"
                raise ValueError(f"{name} must be a token of {dtype}, {low} to {high}, got {token}")
    return tokens


def check_mode(mode: Any) -> bool:
    """True for inverted scaling, False for classic."""
    if mode == "inverted":
        return True
    if mode == "classic":
        return False
    raise ValueError(f'mode must be "inverted" or "classic", got {mode!r}')


def drop_threshold(p: Any = None, rate: Any = None, keep_prob: Any = None) -> int:
    """D of the one probability that was given, by whichever of its three names."""
    return threshold(one_p(p, rate, keep_prob))


def one_p(
    p: Any,
    rate: Any = None,
    keep_prob: Any = None,
    check: Callable[[Any, str], Any] = check_probability,
    complement: Callable[[Any], Any] = lambda keep: 1.0 - keep,
) -> Any:
    """The drop probability of the one argument that was given.

    Args:
        p: the argument of this name, which is not checked here.
        rate: the same by Flax's, Keras's and TensorFlow's name.
        keep_prob: TensorFlow 1's probability to keep.
        check: of a rate or keep_prob, and of its name.
        complement: 1 − keep_prob.
    """
    if rate is None and keep_prob is None and p is not None:
        return p
    given = {n: v for n, v in (("p", p), ("rate", rate), ("keep_prob", keep_prob)) if v is not None}
    if len(given) != 1:
        got = " and ".join(f"{name}={value!r}" for name, value in given.items()) or "none of them"
        raise TypeError(f"pass exactly one of p, rate (drop) or keep_prob (keep), got {got}")
    ((name, value),) = given.items()
    checked = check(value, name)
    return complement(checked) if name == "keep_prob" else checked


def effect(drop: int, training: bool, inverted: bool) -> tuple[int, float]:
    """A call's effect (CONTRACT.md, section 4): drop by this threshold, multiply the rest by this factor.

    `IDENTITY` is x itself. Classic evaluation at p = 1 is zero, as everything it averages is.
    """
    if training:
        return drop, inverse_scale(drop) if inverted else 1.0
    if inverted or drop == 0:
        return IDENTITY
    return (DROP_ALL, 0.0) if drop == DROP_ALL else (0, keep_probability(drop))


def alpha_numbers(rate: float) -> tuple[float, float, float]:
    """Return alpha dropout's a, b and a · α' + b of a realised rate: kept is a · x + b, dropped the last."""
    a = 1.0 / math.sqrt((SELU_LIMIT * SELU_LIMIT * rate + 1.0) * (1.0 - rate)) if rate < 1.0 else 0.0
    b = -a * SELU_LIMIT * rate
    return a, b, a * SELU_LIMIT + b
