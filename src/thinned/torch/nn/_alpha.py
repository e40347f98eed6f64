"""Alpha dropout: what is dropped goes to SELU's lower limit, and mean and variance stay."""

from __future__ import annotations

import torch

from thinned.torch import functional
from thinned.torch.nn._in_place import InPlace


class AlphaDropout(InPlace, torch.nn.AlphaDropout):
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

    _verb = functional.alpha_dropout


class FeatureAlphaDropout(InPlace, torch.nn.FeatureAlphaDropout):
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

    _verb = functional.feature_alpha_dropout
    _batch = 0
