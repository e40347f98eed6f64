"""Dropout and the residual that is added to it."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class DropoutAdd(Site):
    """Equivalent to `Dropout(p)(input) + residual`, to the bit, in one pass over memory.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        CONTRACT.md, section 4.

    Example:
        >>> import torch
        >>> DropoutAdd(0.1).eval()(torch.ones(3), torch.ones(3))
        tensor([2., 2., 2.])
    """

    def __init__(self, p: Probability = 0.5) -> None:
        super().__init__()
        self.p = check_p(p)

    def forward(
        self, input: Tensor, residual: Tensor, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Drop the input in training and add the residual; `call` tells calls of one step apart."""
        return functional.dropout_add(
            input,
            residual,
            self.rate(self.p),
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input),
        )

    def extra_repr(self) -> str:
        """In torch's manner."""
        return f"p={self.p}"
