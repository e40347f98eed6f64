"""Dropout on the input of a linear model is averaged here by formulas, without enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinned.exact._masks import Doubles, Mode, check_units


def expected_squared_error(x: Any, y: Any, w: Any, p: Any, *, mode: Mode = "inverted") -> float:
    """The squared error of a linear model, averaged over all masks on its input.

    With inverted scaling E Σ (y − dropout(x)·w)² = Σ (y − x·w)² + Σⱼ p/(1−p) · (XᵀX)ⱼⱼ · wⱼ²; any number of
    units, and masks may be shared by rows or not.

    Args:
        x: inputs, shape (rows, n).
        y: targets, shape (rows,), or (rows, outputs).
        w: weights, shape (n,), or (n, outputs).
        p: drop probability in [0, 1], one number or one a unit.
        mode: "inverted", or "classic", where w multiplies unscaled units: then Σ (y − (1−p)·x·w)² and
            p·(1−p) in place of p/(1−p).

    Returns:
        The sum over rows and outputs, not their mean.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `x must have shape (rows, n), got …`; `y must have shape …`;
            `w must have shape …`.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 9.1; Wager, Wang and Liang, "Dropout Training as
        Adaptive Regularization", NIPS 2013.

    Example:
        >>> expected_squared_error([[1.0, 2.0]], [1.0], [1.0, 1.0], 0.5)
        9.0
    """
    x, y = _data(x, y)
    mean, spread = _factor(x.shape[1], p, mode)
    w = np.asarray(w, dtype=np.float64)
    if w.shape != (x.shape[1], *y.shape[1:]):
        raise ValueError(f"w must have shape {(x.shape[1], *y.shape[1:])}, got {w.shape}")
    residual = y - (x * mean) @ w
    return float((residual**2).sum() + (spread * (x**2).sum(axis=0) @ w**2).sum())


def ridge_penalty(x: Any, p: Any, *, mode: Mode = "inverted") -> Doubles:
    """The ridge that dropout on the input of a linear regression is: p/(1−p) · diag(XᵀX).

    Args:
        x: inputs, shape (rows, n).
        p: drop probability in [0, 1], one number or one a unit. At 1 a unit has no say, and no penalty.
        mode: "inverted", or "classic": p·(1−p) · diag(XᵀX).

    Returns:
        What multiplies each squared weight, float64 of shape (n,).

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `x must have shape (rows, n), got …`.

    Source:
        As `expected_squared_error`.

    Example:
        >>> ridge_penalty([[1.0, 2.0], [3.0, 0.0]], 0.2).tolist()
        [2.5, 1.0]
    """
    x = _inputs(x)
    penalty: Doubles = _factor(x.shape[1], p, mode)[1] * (x**2).sum(axis=0)
    return penalty


def ridge_solution(x: Any, y: Any, p: Any, *, mode: Mode = "inverted") -> Doubles:
    """The weights whose `expected_squared_error` is least; of several such, the shortest.

    Args:
        x: inputs, shape (rows, n).
        y: targets, shape (rows,), or (rows, outputs).
        p: drop probability in [0, 1], one number or one a unit.
        mode: "inverted" or "classic"; a classic weight is 1/(1−p) times the inverted one.

    Returns:
        Weights, float64 of shape (n,), or (n, outputs).

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `x must have shape (rows, n), got …`; `y must have shape …`.

    Source:
        As `expected_squared_error`.

    Example:
        >>> ridge_solution([[1.0], [1.0]], [4.0, 4.0], 0.5).round(12).tolist()
        [2.0]
    """
    x, y = _data(x, y)
    mean, spread = _factor(x.shape[1], p, mode)
    # Ridge as least squares with a row a penalty: not squaring X keeps half the digits that XᵀX would lose.
    rows = np.diag(np.sqrt(spread * (x**2).sum(axis=0)))
    targets = np.concatenate([y, np.zeros((x.shape[1], *y.shape[1:]))])
    found: Doubles = np.linalg.lstsq(np.concatenate([x * mean, rows]), targets, rcond=None)[0]
    return found


def linear_variance(x: Any, w: Any, p: Any, *, mode: Mode = "inverted") -> Doubles:
    """The variance over masks of dropout(x) · w: Σⱼ p/(1−p) · xⱼ² · wⱼ².

    Args:
        x: inputs, shape (…, n).
        w: weights, shape (n,), or (n, outputs). An identity gives the variance of each unit of dropout(x).
        p: drop probability in [0, 1], one number or one a unit.
        mode: "inverted", or "classic": p·(1−p) in place of p/(1−p).

    Returns:
        float64 of the shape of x @ w.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `w must have shape (…,) or (…, outputs), got …`.

    Source:
        As `expected_squared_error`.

    Example:
        >>> float(linear_variance([1.0, 2.0], [1.0, 1.0], 0.5))
        5.0
    """
    x, w = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    if x.ndim == 0 or w.ndim not in (1, 2) or w.shape[0] != x.shape[-1]:
        n = x.shape[-1] if x.ndim else "n"
        raise ValueError(f"w must have shape ({n},) or ({n}, outputs), got {w.shape}")
    spread = _factor(x.shape[-1], p, mode)[1]
    variance: Doubles = np.asarray((spread * x**2) @ w**2)
    return variance


def _factor(n: int, p: Any, mode: Any) -> tuple[Doubles, Doubles]:
    """Mean and variance of what dropout multiplies each unit by."""
    units = check_units(n, p, mode)
    return units.expected, units.factor**2 * units.p * (1 - units.p)


def _inputs(x: Any) -> Doubles:
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"x must have shape (rows, n), got {array.shape}")
    return array


def _data(x: Any, y: Any) -> tuple[Doubles, Doubles]:
    inputs, targets = _inputs(x), np.asarray(y, dtype=np.float64)
    if targets.ndim not in (1, 2) or len(targets) != len(inputs):
        rows = len(inputs)
        raise ValueError(f"y must have shape ({rows},) or ({rows}, outputs), got {targets.shape}")
    return inputs, targets
