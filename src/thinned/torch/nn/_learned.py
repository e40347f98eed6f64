"""What layers whose rate is learned have in common, and their terms of a loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from thinned._concrete import check_inside, check_samples
from thinned.torch._site import Site

_CONVOLUTIONS = {torch.nn.Conv1d: 1, torch.nn.Conv2d: 2, torch.nn.Conv3d: 3}


class Learned(Site):
    """Noise before a linear or convolutional layer, whose rate is a parameter, p's logit.

    A convolution has one number for a channel of a sample.
    """

    def __init__(self, layer: torch.nn.Module, p: float, samples: int) -> None:
        super().__init__()
        rank = next((axes for kind, axes in _CONVOLUTIONS.items() if isinstance(layer, kind)), 0)
        if not rank and not isinstance(layer, torch.nn.Linear):
            raise TypeError(f"layer must be a Linear or Conv1d to Conv3d, got {type(layer).__name__}")
        p = check_inside(p)
        self.layer: Any = layer
        self.samples = check_samples(samples)
        weight: Any = layer.weight
        logit = math.log(p) - math.log1p(-p)
        self.p_logit = torch.nn.Parameter(weight.detach().new_full((), logit))
        self._axes = rank

    @property
    def p(self) -> Tensor:
        """The drop probability that has been learned so far, a tensor of no dimension."""
        return torch.sigmoid(self.p_logit)

    def noise_shape(self, input: Tensor) -> tuple[int | None, ...] | None:
        """One number a channel of a convolution."""
        return (None,) * (input.dim() - self._axes) + (1,) * self._axes if self._axes else None

    def extra_repr(self) -> str:
        """The rate now."""
        return f"p={self.p.item():.4g}, samples={self.samples}"


def regularization(model: torch.nn.Module) -> Tensor:
    """The sum of the `regularization()` of all layers of a model that have one: add it to a mean loss.

    Args:
        model: with `ConcreteDropout`, `VariationalDropout` or `SparseVariationalLinear` in it.

    Returns:
        A tensor of no dimension: the divergence from the prior, for one sample of the training set.

    Raises:
        ValueError: `model has no layer with a regularization()`.

    Example:
        >>> import torch, thinned
        >>> layers = [thinned.torch.nn.ConcreteDropout(torch.nn.Linear(4, 4), samples=100) for _ in range(2)]
        >>> regularization(torch.nn.Sequential(*layers)).shape
        torch.Size([])
    """
    # Asked of the class: a wrapper, such as torch.compile's, hands on what its inner module has.
    terms = [
        module.regularization()  # type: ignore[operator]
        for module in model.modules()
        if callable(getattr(type(module), "regularization", None))
    ]
    if not terms:
        raise ValueError("model has no layer with a regularization(): none of its rates is learned")
    return torch.stack(terms).sum()


def at_least_float32(parameter: Tensor) -> Tensor:
    """A divergence is a sum over a layer, which leaves float16's range."""
    return parameter.to(torch.promote_types(parameter.dtype, torch.float32))
