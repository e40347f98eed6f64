"""DropKey: keys that a query does not see, chosen before the softmax."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class DropKey(Site):
    """Softmax of attention's scores, where in training each query does not see a key with probability p.

    Args:
        p: probability in [0, 1], a tensor of them that fits the scores, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Bonan Li et al., "DropKey for Vision Transformer", CVPR 2023, which lets p fall with the depth.

    Example:
        >>> import torch
        >>> DropKey(0.1)(torch.zeros(2, 4, 5, 5)).shape
        torch.Size([2, 4, 5, 5])
    """

    def __init__(self, p: Probability = 0.1) -> None:
        super().__init__()
        self.p = check_p(p)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Scores to probabilities, by `key` if given; `call` tells calls of one step apart."""
        return functional.drop_key(
            input,
            self.rate(self.p),
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"
