"""DropBlock drops contiguous blocks of a channel's map together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from thinned.torch import functional
from thinned.torch._rate import p_of_timm
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.functional._block import check_block_size

# torchvision's and, up to its version 1.0.22, timm's.
_WITHOUT_EFFECT = {"eps", "batchwise", "fast"}


class _DropBlock(Site):
    _shown = ("p", "block_size", "inplace")
    _shown_unless = (
        ("gamma_scale", 1.0),
        ("with_noise", False),
        ("couple_channels", False),
        ("scale_by_keep", True),
    )
    rank: ClassVar[int]
    verb: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        p: Probability | None = None,
        block_size: int | Sequence[int] = 7,
        inplace: bool = False,
        *,
        drop_prob: Probability | None = None,
        gamma_scale: float = 1.0,
        with_noise: bool = False,
        couple_channels: bool | None = None,
        scale_by_keep: bool = True,
        **others: Any,
    ) -> None:
        super().__init__()
        for name in others.keys() - _WITHOUT_EFFECT:
            warnings.warn(f"{type(self).__name__}() got unexpected keyword argument {name!r}", stacklevel=2)
        self.p = check_p(p_of_timm(p, drop_prob))
        check_block_size(block_size, self.rank)
        self.block_size = block_size
        self.inplace = inplace
        self.gamma_scale = gamma_scale
        self.with_noise = with_noise
        self.couple_channels = p is None if couple_channels is None else couple_channels
        self.scale_by_keep = scale_by_keep

    @property
    def drop_prob(self) -> Probability:
        """P by timm's name."""
        return self.p  # type: ignore[no-any-return]

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        p = self.rate(self.p)
        return type(self).verb(
            input,
            p if self.gamma_scale == 1.0 else p * self.gamma_scale,
            self.block_size,
            self.training,
            self.inplace,
            key=self.mask_key(call, input, key),
            scale_by_keep=self.scale_by_keep,
            couple_channels=self.couple_channels,
            with_noise=self.with_noise,
            **self.place(input, 0),
        )


class DropBlock1d(_DropBlock):
    """Drop runs of each channel of (N, C, L): `DropBlock2d` of one dimension.

    Example:
        >>> import torch
        >>> DropBlock1d(0.1, 5)(torch.ones(2, 4, 50)).shape
        torch.Size([2, 4, 50])
    """

    rank = 1
    verb = functional.drop_block1d


class DropBlock2d(_DropBlock):
    """Drop blocks of each channel's map (N, C, H, W), a share p of every sample on average.

    Named as torchvision's layer, from which it differs: the expected share is p exactly, even blocks lie
    where odd ones would, and the kept elements are scaled by the count of their own sample, not of the
    batch. There is no `eps`: a sample that is dropped whole is zero.

    Args:
        p: share to drop in [0, 1], a tensor of them (see `functional.drop_block2d`), or a schedule.
        block_size: sides of a block, a positive integer or one for each dimension of the map; 7 as in timm.
        inplace: write to the input itself.
        drop_prob: p by timm's name; channels are then coupled, as there, unless it is said otherwise.
        gamma_scale: by which p is multiplied.
        with_noise: normal noise in place of what is dropped, and no scale.
        couple_channels: one mask for all channels of a sample.
        scale_by_keep: scale what is kept.
        others: torchvision's `eps` and timm's former `batchwise` and `fast` have no effect here; a warning
            names any other.

    Raises:
        TypeError: `pass p, or drop_prob …`; `p must be a real number, got …`; `block_size must be an integer,
            got …`.
        ValueError: `p must be in [0, 1], got …`; `block_size must be positive, got …`.

    Source:
        Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018.

    Example:
        >>> import torch
        >>> layer = DropBlock2d(0.1, block_size=7)
        >>> layer(torch.ones(2, 16, 28, 28)).shape
        torch.Size([2, 16, 28, 28])
    """

    rank = 2
    verb = functional.drop_block2d


class DropBlock3d(_DropBlock):
    """Drop boxes of each channel of (N, C, D, H, W): `DropBlock2d` of three dimensions.

    Example:
        >>> import torch
        >>> DropBlock3d(0.1, (1, 3, 3))(torch.ones(2, 4, 8, 8, 8)).shape
        torch.Size([2, 4, 8, 8, 8])
    """

    rank = 3
    verb = functional.drop_block3d
