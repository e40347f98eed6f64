"""Variational dropout in front of a layer."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey
from thinned.torch.nn._learned import Learned, at_least_float32

# Kingma et al. 2015, appendix C: the divergence for α ≤ 1.
_CUBIC = (1.16145124, -1.50204118, 0.58629921)


class VariationalDropout(Learned):
    """Multiply the inputs of a layer by normal noise whose variance α = p/(1−p) ≤ 1 is learned.

    Args:
        layer: nn.Linear, or nn.Conv1d to Conv3d, whose channels have one number each.
        p: where p begins, in (0, 0.5].
        samples: N, the size of the training set.

    Raises:
        TypeError: `layer must be a Linear or Conv1d to Conv3d, got …`.
        ValueError: `p must be in (0, 0.5], got …`; `samples must be positive, got …`.

    Source:
        Kingma, Salimans and Welling, "Variational Dropout and the Local Reparameterization Trick",
        NeurIPS 2015.

    Example:
        >>> import torch
        >>> layer = VariationalDropout(torch.nn.Linear(8, 4), 0.2, samples=1000)
        >>> layer(torch.ones(2, 8)).shape, round(layer.p.item(), 4)
        (torch.Size([2, 4]), 0.2)
    """

    def __init__(self, layer: torch.nn.Module, p: float = 0.1, *, samples: int) -> None:
        super().__init__(layer, p, samples)
        if p > 0.5:
            raise ValueError(f"p must be in (0, 0.5], got {p}: the paper's divergence is known for α ≤ 1")

    @property
    def p(self) -> Tensor:
        """The rate that has been learned so far, at most 0.5: the parameter is log α."""
        return torch.sigmoid(self.p_logit.clamp_max(0.0))

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The layer of its input with noise; by `key` if given; `call` tells calls of one step apart."""
        noisy = functional.variational_dropout(
            input,
            self.p,
            self.training,
            key=self.mask_key(call, input, key),
            noise_shape=self.noise_shape(input),
            **self.place(input, 0),
        )
        return self.layer(noisy)  # type: ignore[no-any-return]

    def regularization(self) -> Tensor:
        """The divergence of all weights from the log-uniform prior over N, but for a constant."""
        log_alpha = at_least_float32(self.p_logit).clamp_max(0.0)
        alpha, (c1, c2, c3) = log_alpha.exp(), _CUBIC
        each = 0.5 * log_alpha + alpha * (c1 + alpha * (c2 + alpha * c3))
        return -each * self.layer.weight.numel() / self.samples  # type: ignore[no-any-return]
