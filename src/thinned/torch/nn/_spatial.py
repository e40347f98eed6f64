"""Dropout along axes that have names."""

from __future__ import annotations

from torch import Tensor

from thinned._position import noise_of_names
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class SpatialDropout(Site):
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

    def __init__(self, p: Probability, layout: str, independent: str) -> None:
        super().__init__()
        noise_of_names(layout, independent)
        self.p = check_p(p)
        self.layout, self.independent = layout, independent

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.spatial_dropout(
            input,
            self.rate(self.p),
            self.layout,
            self.independent,
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """The rate and the names."""
        return f"p={self.p}, layout={self.layout}, independent={self.independent}"
