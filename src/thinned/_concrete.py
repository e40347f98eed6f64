"""Concrete dropout is written here in any library's operators: the mask, its divergence, a layer's checks."""

from __future__ import annotations

import math
from typing import Any

from thinned.contract import check_integer, check_probability


def relaxed(x: Any, odds: Any, rate: Any, inside: Any, temperature: float, library: Any, ends: Any) -> Any:
    """X times a relaxed mask over 1 − p (Gal, Hron and Kendall, NeurIPS 2017, equation 5).

    Args:
        x: in the type that is computed in.
        odds: logit u of each element, which broadcasts to x.
        rate: p.
        inside: p kept off 0 and 1, where its logit is infinite.
        temperature: of the mask.
        library: has `log`, `log1p`, `sigmoid` and `where`.
        ends: 1 and 0 in that type.

    Returns:
        All of x at p = 0, zeros at p = 1.
    """
    one, zero = ends
    # Outside [0, 1], where it is known too late for an error, all of the result is NaN.
    inside = library.where((rate >= 0) & (rate <= 1), inside, one * math.nan)
    above = odds - (library.log(inside) - library.log1p(-inside))
    factor = library.sigmoid(above / temperature) / (1.0 - inside)
    value = x * library.where(rate == 0, one, factor)
    return library.where(rate == 1, zero, value)


def divergence(logit: Any, squares: Any, inputs: int, samples: int, length_scale: float, library: Any) -> Any:
    """Computes the divergence from the prior, over N: (l²/(2(1−p)) ‖W‖² − K H(p)) / N.

    Args:
        logit: p's.
        squares: ‖W‖².
        inputs: K, of inputs or channels that are dropped.
        samples: N, the size of the training set.
        length_scale: l, the prior's.
        library: has `exp`, `sigmoid` and `softplus`.
    """
    p = library.sigmoid(logit)
    entropy = p * library.softplus(-logit) + (1.0 - p) * library.softplus(logit)
    # 1/(1−p) = 1 + exp(logit)
    return (length_scale**2 * (1.0 + library.exp(logit)) * squares / 2.0 - inputs * entropy) / samples


def check_inside(p: Any, name: str = "p") -> float:
    """Tells where a rate that is learned begins."""
    rate = check_probability(p, name)
    if not 0.0 < rate < 1.0:
        raise ValueError(f"{name} must be inside (0, 1), got {rate}: from its ends no gradient leads away")
    return rate


def check_samples(samples: Any) -> int:
    """Checks the number of the training set's samples."""
    if check_integer("samples", samples) < 1:
        raise ValueError(f"samples must be positive, got {samples}: it is the size of the training set")
    return int(samples)


def check_positive(**numbers: Any) -> tuple[float, ...]:
    """A prior's length scale, a mask's temperature, as numbers that a configuration can hold."""
    for name, value in numbers.items():
        try:
            fits = 0.0 < float(value) < math.inf and not isinstance(value, str)
        except Exception:  # of what is traced a framework raises its own
            raise TypeError(f"{name} must be a number, known when it is given, got {value!r}") from None
        if not fits:
            raise ValueError(f"{name} must be positive, got {value}")
    return tuple(map(float, numbers.values()))
