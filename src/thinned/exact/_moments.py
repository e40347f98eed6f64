"""Averages follow here from weighted sums over masks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from thinned.exact._masks import Doubles


def as_input(x: Any, name: str) -> Any:
    """A floating tensor as it is; anything else as an array of doubles."""
    if is_tensor(x):
        if not x.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}: pass {name}.double()")
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
    return array.astype(np.float64)


def is_tensor(x: Any) -> bool:
    """Tells whether x is torch's; it cannot be if nothing has loaded torch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def namespace(x: Any) -> Any:
    """The module whose functions take x."""
    return sys.modules["torch"] if is_tensor(x) else np


def like(values: Any, x: Any) -> Any:
    """A NumPy array as what x is: of its dtype and on its device, a bool one staying bool."""
    if not is_tensor(x):
        return values
    tensor = namespace(x).from_numpy(np.ascontiguousarray(values)).to(x.device)
    return tensor if values.dtype == np.bool_ else tensor.to(x.dtype)


def widen(values: Any) -> Any:
    """Return what a function returned, in double."""
    return values.double() if is_tensor(values) else np.asarray(values, dtype=np.float64)


Geometric = Literal["categorical", "bernoulli"]

_SUM = 1e-3  # by how much probabilities may miss a sum of 1; half precision misses it by less


@dataclass(frozen=True, eq=False)
class Average:
    """Holds what a function is over all masks, and at the mean mask.

    All are float64 and of the function's output shape without its first axis: tensors if it returned them.

    Args:
        mean: the arithmetic mean, Σ P(mask) · f(mask).
        variance: Σ P(mask) · (f(mask) − mean)².
        weight_scaling: the function once, each unit at its expectation: what dropout layers do in evaluation.
        geometric: the geometric mean, renormalised; None if it was not asked for.

    Example:
        >>> from thinned.exact import average
        >>> result = average(lambda x: x[:, 0] * x[:, 1], [3.0, 2.0], 0.5)
        >>> float(result.mean), float(result.variance), float(result.weight_scaling)
        (6.0, 108.0, 6.0)
    """

    mean: Any
    variance: Any
    weight_scaling: Any
    geometric: Any = None

    @property
    def second_moment(self) -> Any:
        """Σ P(mask) · f(mask)²."""
        return self.variance + self.mean**2


def moments(
    function: Callable[[Any], Any],
    at_mean: Any,
    chunks: Iterable[tuple[Any, Doubles]],
    geometric: Geometric | None,
) -> Average:
    """Sum the function over chunks of what it takes, each with its probabilities."""
    _check_geometric(geometric)
    center = _outputs(function, at_mean, 1)[0]
    # Sums of differences from weight scaling: a constant function has a variance of exactly 0.
    first: Any = 0
    second, logs = first, first
    for given, probability in chunks:
        values = _outputs(function, given, len(probability))
        difference = values - center
        first = first + _weigh(probability, difference)
        second = second + _weigh(probability, difference * difference)
        if geometric is not None:
            logs = logs + _weigh(probability, _logarithms(values, geometric))
    variance = (second - first * first).clip(min=0)
    product = None if geometric is None else _renormalise(logs, geometric)
    return Average(center + first, variance, center, product)


def _outputs(function: Callable[[Any], Any], given: Any, count: int) -> Any:
    """Returns one output for each mask, in double."""
    values = widen(function(given))
    shape = tuple(values.shape)
    if not shape or shape[0] != count:
        raise ValueError(f"function must return one output for each of the {count} masks, got shape {shape}")
    return values


def _weigh(probability: Doubles, values: Any) -> Any:
    rows = values.reshape(len(probability), -1)
    return (like(probability, values) @ rows).reshape(values.shape[1:])


def _check_geometric(geometric: Any) -> None:
    if geometric not in (None, "categorical", "bernoulli"):
        raise ValueError(f'geometric must be None, "categorical" or "bernoulli", got {geometric!r}')


def _logarithms(values: Any, geometric: Geometric) -> Any:
    """Returns the logarithm of each outcome's probability, outcomes along the last axis."""
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(
            f'geometric="{geometric}" averages probabilities, got outputs outside [0, 1]: '
            "end the function in a softmax or a sigmoid"
        )
    xp = namespace(values)
    with np.errstate(divide="ignore"):  # log 0: one impossible vote makes an outcome impossible
        if geometric == "bernoulli":
            return xp.stack([xp.log(values), xp.log1p(-values)], -1)
        if values.ndim < 2 or float(abs(values.sum(-1) - 1).max()) > _SUM:
            raise ValueError(
                'geometric="categorical" needs outputs that sum to 1 along the last axis: end the function '
                'in a softmax, or pass "bernoulli" if each output is the probability of its own event'
            )
        return xp.log(values)


def _renormalise(logs: Any, geometric: Geometric) -> Any:
    xp = namespace(logs)
    powers = xp.exp(logs - xp.amax(logs, -1)[..., None])
    shares = powers / powers.sum(-1)[..., None]
    return shares[..., 0] if geometric == "bernoulli" else shares
