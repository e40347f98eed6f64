"""Alpha dropout: what is dropped goes to SELU's lower limit, and mean and variance stay."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import Probability, Site, check_p


class _Alpha(Site):
    """What the two have in common."""

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)
        self.p = check_p(p)


class AlphaDropout(_Alpha, torch.nn.AlphaDropout):
    """Equivalent to `torch.nn.AlphaDropout`, of which it is a subclass.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself; torch's own class takes this argument and does not.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Example:
        >>> AlphaDropout(0.2)(torch.randn(20, 16)).shape
        torch.Size([20, 16])
    """

    def forward(self, input: Tensor, *, call: int | None = None) -> Tensor:
        """Drop in training; `call` tells calls of a keyed layer in one step apart."""
        return functional.alpha_dropout(
            input,
            self.rate(self.p),
            self.training,
            self.inplace,
            key=self.mask_key(call, input),
            **self.place(input),
        )


class FeatureAlphaDropout(_Alpha, torch.nn.FeatureAlphaDropout):
    """Equivalent to `torch.nn.FeatureAlphaDropout`, of which it is a subclass: whole channels of (N, C, …).

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself; torch's own class takes this argument and does not.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `feature_alpha_dropout takes (N, C, …), got …`.

    Source:
        Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Example:
        >>> FeatureAlphaDropout(0.2)(torch.randn(20, 16, 4, 8, 8)).shape
        torch.Size([20, 16, 4, 8, 8])
    """

    def forward(self, input: Tensor, *, call: int | None = None) -> Tensor:
        """Drop channels in training; `call` tells calls of a keyed layer in one step apart."""
        return functional.feature_alpha_dropout(
            input,
            self.rate(self.p),
            self.training,
            self.inplace,
            key=self.mask_key(call, input),
            **self.place(input, 0),
        )
