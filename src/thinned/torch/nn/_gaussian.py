"""Gaussian dropout: multiplicative normal noise of mean 1."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._gaussian import check_finite
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.schedules import Schedule


class GaussianDropout(Site):
    """Multiply by 1 + σ z in training, with σ = √(p/(1−p)) and a standard normal z for each element.

    Equivalent to `keras.layers.GaussianDropout`.

    Args:
        p: in [0, 1), the dropout probability whose variance the noise has; a tensor of them that fits the
            input, or a schedule.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `GaussianDropout needs p < 1, got …`.

    Source:
        CONTRACT.md, section 6; Srivastava et al., "Dropout", JMLR 2014, section 10.

    Example:
        >>> import torch
        >>> GaussianDropout(0.2)(torch.ones(20, 16)).shape
        torch.Size([20, 16])
    """

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = check_p(p)
        if not isinstance(p, Schedule):
            check_finite(self.p)
        self.inplace = inplace

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Multiply in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        return functional.gaussian_dropout(
            input,
            self.rate(self.p),
            self.training,
            self.inplace,
            key=self.mask_key(call, input, key),
            **self.place(input),
        )

    def extra_repr(self) -> str:
        """As torch's dropout layers write it."""
        return f"p={self.p}, inplace={self.inplace}"
