"""Dropout of whole channels."""

from __future__ import annotations

import torch

from thinned.torch import functional
from thinned.torch.nn._in_place import InPlace


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
    _batch = 0


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
    _batch = 0


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
    _batch = 0
