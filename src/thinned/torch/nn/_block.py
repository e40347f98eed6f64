"""DropBlock: contiguous blocks of a channel's map are dropped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import Probability, Site, check_p
from thinned.torch.functional._block import check_block_size


class _DropBlock(Site):
    rank: ClassVar[int]
    verb: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: Probability, block_size: int | Sequence[int], inplace: bool = False) -> None:
        super().__init__()
        self.p = check_p(p)
        check_block_size(block_size, self.rank)
        self.block_size = block_size
        self.inplace = inplace

    def forward(self, input: Tensor, *, call: int | None = None) -> Tensor:
        """Drop in training, the input itself otherwise; `call` tells calls of one step apart."""
        return type(self).verb(
            input,
            self.rate(self.p),
            self.block_size,
            self.training,
            self.inplace,
            key=self.mask_key(call, input),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """In torchvision's manner."""
        return f"p={self.p}, block_size={self.block_size}, inplace={self.inplace}"


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
        block_size: sides of a block, a positive integer or one for each dimension of the map.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`; `block_size must be an integer, got …`.
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
