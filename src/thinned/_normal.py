"""The normal quantile of CONTRACT.md, section 6, is written here in any library's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thinned import _quantile

LEAST = -1e38  # below every deviate times a standard deviation


def quantile(v: Any, where: Callable[..., Any], sqrt: Callable[..., Any], log: Callable[..., Any]) -> Any:
    """Φ⁻¹((v + ½) / 2^32) in double, of integers below 2^32 in double.

    A library's logarithm may differ from the contract's in the last place of a double, which shows in one
    float32 in 2^28.
    """
    q = (v + 0.5) * 2.0**-32 - 0.5
    inner = 0.180625 - q * q
    central = _polynomial(_quantile.CENTRAL_TOP, inner) * q / _polynomial(_quantile.CENTRAL_BOTTOM, inner)
    distance = where(q < 0.0, -q, q)
    outer = sqrt(-log(0.5 - distance)) - 1.6
    tail = _polynomial(_quantile.TAIL_TOP, outer) / _polynomial(_quantile.TAIL_BOTTOM, outer)
    return where(distance > 0.425, where(q < 0.0, -tail, tail), central)


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    total = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
