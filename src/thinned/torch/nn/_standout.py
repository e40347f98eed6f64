"""Standout: an activation whose units are dropped as a belief network says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Site


class Standout(Site):
    """Drop a unit with probability 1 − σ(α s + β), where s is its pre-activation: strong units stand out.

    Args:
        activation: f, a module or function; training gives m · f(s), evaluation
            σ(α s + β) · f(s).
        alpha: α, a number.
        beta: β, a number: the higher, the more is kept.

    Raises:
        TypeError: `activation must be callable, got …`.

    Source:
        Ba and Frey, "Adaptive dropout for training deep neural networks", NeurIPS 2013; the belief network
        has the layer's own weights, as their section 3.3 has it. `forward(s, belief)` takes another's.

    Example:
        >>> layer = torch.nn.Sequential(torch.nn.Linear(4, 8), Standout(torch.nn.ReLU()))
        >>> layer(torch.ones(2, 4)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self, activation: Callable[[Tensor], Tensor] = torch.relu, alpha: float = 1.0, beta: float = 0.0
    ) -> None:
        super().__init__()
        if not callable(activation):
            raise TypeError(f"activation must be callable, got {activation!r}")
        self.activation = activation
        self.alpha, self.beta = alpha, beta

    def forward(
        self, input: Tensor, belief: Tensor | None = None, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Of pre-activations; `belief`, of their shape, is another network's where it has one."""
        score = input if belief is None else belief
        p = torch.sigmoid(-(self.alpha * score + self.beta))
        return functional.standout(
            self.activation(input),
            p,
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """The belief network's two numbers."""
        return f"alpha={self.alpha}, beta={self.beta}"
