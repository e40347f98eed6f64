"""LayerDrop: whole layers of a stack passed by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class LayerDrop(Site, torch.nn.ModuleList):
    """A stack of layers of which some are not run in training; its state is that of a `ModuleList`.

    Args:
        layers: modules, each of which takes what the one before it gives.
        p: drop probability in [0, 1], a tensor of one for each layer, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Fan, Grave and Joulin, "Reducing Transformer Depth on Demand with Structured Dropout", ICLR 2020.

    Example:
        >>> import torch
        >>> stack = LayerDrop([torch.nn.Linear(4, 4) for _ in range(6)], p=0.2)
        >>> stack(torch.ones(2, 4)).shape, list(stack.state_dict())[:2]
        (torch.Size([2, 4]), ['0.weight', '0.bias'])
    """

    def __init__(self, layers: Iterable[torch.nn.Module], p: Probability) -> None:
        super().__init__(layers)
        self.p = check_p(p)

    def forward(
        self, input: Tensor, *args: Any, key: MaskKey = None, call: int | None = None, **options: Any
    ) -> Tensor:
        """Run the kept layers, by `key` if given; `call` tells calls of one step apart."""
        mask_key = self.mask_key(call, input, key)
        return functional.layer_drop(
            input, list(self), self.rate(self.p), self.training, *args, key=mask_key, **options
        )

    def __repr__(self) -> str:
        """A ModuleList's, and p."""
        return torch.nn.ModuleList.__repr__(self).replace("(", f"(p={self.p}, ", 1)
