"""Stochastic depth: whole samples, or a whole batch, dropped from a residual branch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from thinned.torch import functional
from thinned.torch._rate import p_of_timm
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.functional._path import check_rows


class DropPath(Site):
    """Equivalent to timm's `DropPath`: one decision for each sample of a residual branch.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule. Required: timm's
            default of 0 drops nothing.
        scale_by_keep: multiply what is kept by 1/(1−p). Without it what is kept stays as it is in training,
            and evaluation is still the input itself.
        drop_prob: p by timm's name, by which it can be read too.

    Raises:
        TypeError: `pass p, or drop_prob as timm names it, got …`; `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `drop_path takes (N, …), got shape ()`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> import torch
        >>> layer = DropPath(0.1)
        >>> layer(torch.ones(8, 16, 4, 4)).shape
        torch.Size([8, 16, 4, 4])
    """

    def __init__(
        self,
        p: Probability | None = None,
        scale_by_keep: bool = True,
        *,
        drop_prob: Probability | None = None,
    ) -> None:
        super().__init__()
        self.p = check_p(p_of_timm(p, drop_prob))
        self.scale_by_keep = scale_by_keep

    @property
    def drop_prob(self) -> Probability:
        """P by timm's name."""
        return self.p  # type: ignore[no-any-return]

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop samples in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.drop_path(
            input,
            self.rate(self.p),
            self.training,
            self.scale_by_keep,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """Show what differs from the default."""
        return f"p={self.p}" + ("" if self.scale_by_keep else ", scale_by_keep=False")


class StochasticDepth(Site):
    """Equivalent to `torchvision.ops.StochasticDepth`.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        mode: "row" decides for each sample, "batch" once for all.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `mode must be "row" or "batch", got …`.

    Source:
        Gao Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Example:
        >>> StochasticDepth(0.1, "row")
        StochasticDepth(p=0.1, mode=row)
    """

    def __init__(self, p: Probability, mode: Literal["row", "batch"]) -> None:
        super().__init__()
        check_rows(mode)
        self.p = check_p(p)
        self.mode: Literal["row", "batch"] = mode

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        place = self.place(input, 0) if self.mode == "row" else {}
        return functional.stochastic_depth(
            input, self.rate(self.p), self.mode, self.training, key=self.mask_key(call, input, key), **place
        )

    def extra_repr(self) -> str:
        """As torchvision writes it."""
        return f"p={self.p}, mode={self.mode}"
