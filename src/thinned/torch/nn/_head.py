"""DropHead: whole heads of attention dropped."""

from __future__ import annotations

from torch import Tensor

from thinned.contract import check_integer
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class DropHead(Site):
    """Dropout of whole heads, between attention and the projection of its output.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        dim: of the heads, in (N, …, H, …).
        shared: one decision a head for all samples.

    Raises:
        TypeError: `p must be a real number, got …`; `dim must be an integer, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `dim=… is no dimension of heads in shape …`.

    Source:
        Zhou et al., "Scheduled DropHead: A Regularization Method for Transformer Models", EMNLP Findings
        2020.

    Example:
        >>> import torch
        >>> DropHead(0.2)(torch.ones(8, 4, 16, 32)).shape
        torch.Size([8, 4, 16, 32])
    """

    def __init__(self, p: Probability, dim: int = 1, shared: bool = False) -> None:
        super().__init__()
        self.p, self.dim, self.shared = check_p(p), check_integer("dim", dim), shared

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop heads in training, by `key` if given; `call` tells calls of one step apart."""
        place = {} if self.shared else self.place(input, 0)
        return functional.drop_head(
            input,
            self.rate(self.p),
            self.training,
            self.dim,
            self.shared,
            key=self.mask_key(call, input, key),
            **place,
        )

    def extra_repr(self) -> str:
        """What differs from the default is shown."""
        shown = f"p={self.p}" + ("" if self.dim == 1 else f", dim={self.dim}")
        return shown + (", shared=True" if self.shared else "")
