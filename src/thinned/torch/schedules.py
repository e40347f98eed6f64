"""A schedule is p as a function of the step: give one in place of a number, and call `set_step`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from thinned.contract import check_integer, check_probability

__all__ = ["Curriculum", "Early", "Late", "Linear", "Schedule"]


class Schedule(ABC):
    """A drop probability that depends on the step; subclass it for one of your own.

    It is called with an integer in eager code, where it returns a float, and with an int64 tensor of no
    dimension in compiled code, where it returns a float64 tensor: one graph then serves all steps.
    """

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: Tensor) -> Tensor: ...
    def __call__(self, step: int | Tensor) -> float | Tensor:
        """P at this step, in [0, 1]."""
        return self.at_tensor(step) if isinstance(step, Tensor) else self.at(step)

    @abstractmethod
    def at(self, step: int) -> float:
        """P at this step."""

    @abstractmethod
    def at_tensor(self, step: Tensor) -> Tensor:
        """The same in torch's operators, in double."""


@dataclass(frozen=True)
class Linear(Schedule):
    """Moves linearly from one p to another in so many steps, and stays constant after.

    Args:
        start: p at step 0, in [0, 1].
        end: p from step `steps` on, in [0, 1].
        steps: positive integer.

    Raises:
        TypeError: `start must be a real number, got …`.
        ValueError: `start must be in [0, 1], got …`; `steps must be positive, got …`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, has it over the depth;
        Zhuang Liu et al., "Dropout Reduces Underfitting", ICML 2023, over the steps.

    Example:
        >>> ramp = Linear(0.0, 0.5, steps=100)
        >>> ramp(0), ramp(50), ramp(1000)
        (0.0, 0.25, 0.5)
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        check_probability(self.start, "start")
        check_probability(self.end, "end")
        _check_steps("steps", self.steps)

    def at(self, step: int) -> float:
        """P at this step."""
        return self.start + (self.end - self.start) * min(max(step / self.steps, 0.0), 1.0)

    def at_tensor(self, step: Tensor) -> Tensor:
        """The same as a tensor."""
        return self.start + (self.end - self.start) * (step.double() / self.steps).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Curriculum(Schedule):
    """Raises p from 0, ever more slowly: p · (1 − exp(−gamma · step)).

    Args:
        p: drop probability in [0, 1] that is approached.
        gamma: positive; the paper takes 10 over the number of steps.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `gamma must be positive, got …`.

    Source:
        Morerio, Cavazza, Volpi, Vidal and Murino, "Curriculum Dropout", ICCV 2017, equation 3.

    Example:
        >>> harder = Curriculum(0.5, gamma=0.01)
        >>> harder(0), round(harder(100), 3), round(harder(1000), 3)
        (0.0, 0.316, 0.5)
    """

    p: float
    gamma: float

    def __post_init__(self) -> None:
        check_probability(self.p)
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma must be positive and finite, got {self.gamma}")

    def at(self, step: int) -> float:
        """P at this step."""
        return -self.p * math.expm1(-self.gamma * max(step, 0))

    def at_tensor(self, step: Tensor) -> Tensor:
        """The same as a tensor."""
        return -self.p * torch.expm1(-self.gamma * step.double().clamp_min(0.0))


@dataclass(frozen=True)
class Early(Schedule):
    """p for the first steps, then none: against underfitting.

    Args:
        p: drop probability in [0, 1] of the first steps.
        steps: how many they are, a positive integer.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `steps must be positive, got …`.

    Source:
        Zhuang Liu et al., "Dropout Reduces Underfitting", ICML 2023.

    Example:
        >>> early = Early(0.1, steps=50)
        >>> early(49), early(50)
        (0.1, 0.0)
    """

    p: float
    steps: int

    def __post_init__(self) -> None:
        check_probability(self.p)
        _check_steps("steps", self.steps)

    def at(self, step: int) -> float:
        """P at this step."""
        return self.p if step < self.steps else 0.0

    def at_tensor(self, step: Tensor) -> Tensor:
        """The same as a tensor."""
        return (step < self.steps).double() * self.p


@dataclass(frozen=True)
class Late(Schedule):
    """Drops nothing at first and with p later: against overfitting, once a model can overfit.

    Args:
        p: drop probability in [0, 1] of the later steps.
        after: how many steps are without, a positive integer.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `after must be positive, got …`.

    Source:
        Zhuang Liu et al., "Dropout Reduces Underfitting", ICML 2023.

    Example:
        >>> late = Late(0.1, after=50)
        >>> late(49), late(50)
        (0.0, 0.1)
    """

    p: float
    after: int

    def __post_init__(self) -> None:
        check_probability(self.p)
        _check_steps("after", self.after)

    def at(self, step: int) -> float:
        """P at this step."""
        return 0.0 if step < self.after else self.p

    def at_tensor(self, step: Tensor) -> Tensor:
        """The same as a tensor."""
        return (step >= self.after).double() * self.p


def _check_steps(name: str, value: int) -> None:
    if check_integer(name, value) <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
