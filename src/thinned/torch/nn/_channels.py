"""These layers drop whole channels, or decisions along named axes."""

from __future__ import annotations

import torch

from thinned._position import noise_of_names
from thinned.torch import functional
from thinned.torch._site import Probability
from thinned.torch.nn._verb_layer import InPlace, VerbLayer


class Dropout1d(InPlace, torch.nn.Dropout1d):
    """Equivalent to `torch.nn.Dropout1d`, of which it is a subclass: it drops channels of one axis.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `dropout1d takes (C, L) or (N, C, L), got …`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> Dropout1d(0.2)(torch.ones(20, 16, 32)).shape
        torch.Size([20, 16, 32])
    """

    _verb = functional.dropout1d


class Dropout2d(InPlace, torch.nn.Dropout2d):
    """Equivalent to `torch.nn.Dropout2d`, of which it is a subclass, but that three dimensions are an error.

    torch takes them for (N, C, L) and warns that they will be (C, H, W): `Dropout1d` is for the first, a
    batch of one for the second.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `dropout2d takes (N, C, H, W), got …`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> Dropout2d(0.2)(torch.ones(20, 16, 8, 8)).shape
        torch.Size([20, 16, 8, 8])
    """

    _verb = functional.dropout2d


class Dropout3d(InPlace, torch.nn.Dropout3d):
    """Equivalent to `torch.nn.Dropout3d`, of which it is a subclass: it drops channels of three axes.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `dropout3d takes (C, D, H, W) or …`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> Dropout3d(0.2)(torch.ones(20, 16, 4, 8, 8)).shape
        torch.Size([20, 16, 4, 8, 8])
    """

    _verb = functional.dropout3d


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
    _batch = None


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


class SpatialDropout(VerbLayer):
    """Dropout with one decision for each index of the axes that are named, shared along all others.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        layout: one letter for each dimension of the input, "NHWC". The batch is its first.
        independent: those with decisions of their own, "NC".

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `independent "…" is not in layout "…"`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import torch
        >>> SpatialDropout(0.2, "NLD", "NL")(torch.ones(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    _verb = functional.spatial_dropout
    _options = ("layout", "independent")
    _shown = ("p", "layout", "independent")

    def __init__(self, p: Probability, layout: str, independent: str) -> None:
        super().__init__(p)
        noise_of_names(layout, independent)
        self.layout, self.independent = layout, independent
