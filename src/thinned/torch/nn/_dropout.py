"""Dropout of single elements, and of whatever a noise shape says."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from thinned._arguments import check_mode
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class Dropout(Site, torch.nn.Dropout):
    """Equivalent to `torch.nn.Dropout`, of which it is a subclass.

    Each call in training draws a key from torch's default CPU generator, unless `thinned.torch.keyed` gave
    it one.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        inplace: write to the input itself.
        noise_shape: one entry a dimension: 1 shares the decision along it; None or the input's size does not.
        mode: "inverted" scales in training; "classic" scales in evaluation.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `mode must be "inverted" or "classic", got …`.

    Source:
        CONTRACT.md, section 4; Srivastava et al., "Dropout", JMLR 2014.

    Example:
        >>> layer = Dropout(0.2)
        >>> layer.eval()(torch.ones(3))
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        p: Probability = 0.5,
        inplace: bool = False,
        *,
        noise_shape: tuple[int | None, ...] | None = None,
        mode: Literal["inverted", "classic"] = "inverted",
    ) -> None:
        check_mode(mode)
        super().__init__(inplace=inplace)
        self.p = check_p(p)
        self.noise_shape = noise_shape
        self.mode: Literal["inverted", "classic"] = mode

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        return functional.dropout(
            input,
            self.rate(self.p),
            self.training,
            self.inplace,
            key=self.mask_key(call, input, key),
            noise_shape=self.noise_shape,
            mode=self.mode,
            **self.place(input),
        )

    def extra_repr(self) -> str:
        """Show what differs from torch's defaults."""
        shown = super().extra_repr()
        if self.noise_shape is not None:
            shown += f", noise_shape={self.noise_shape}"
        return shown if self.mode == "inverted" else f"{shown}, mode={self.mode!r}"
