"""Dropout as modules, in the manner of `torch.nn`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from thinned._arguments import check_mode
from thinned.contract import check_probability
from thinned.torch import functional

__all__ = ["Dropout"]


class Dropout(torch.nn.Dropout):
    """Equivalent to `torch.nn.Dropout`, of which it is a subclass.

    Each call in training draws a key from torch's default CPU generator.

    Args:
        p: drop probability in [0, 1].
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
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: tuple[int | None, ...] | None = None,
        mode: Literal["inverted", "classic"] = "inverted",
    ) -> None:
        check_mode(mode)
        super().__init__(check_probability(p), inplace)
        self.noise_shape = noise_shape
        self.mode: Literal["inverted", "classic"] = mode

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, evaluate otherwise; see `thinned.torch.functional.dropout`."""
        return functional.dropout(
            input, self.p, self.training, self.inplace, noise_shape=self.noise_shape, mode=self.mode
        )

    def extra_repr(self) -> str:
        """What differs from torch's defaults is shown."""
        shown = super().extra_repr()
        if self.noise_shape is not None:
            shown += f", noise_shape={self.noise_shape}"
        return shown if self.mode == "inverted" else f"{shown}, mode={self.mode!r}"
