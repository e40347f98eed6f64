"""Stochastic depth drops samples of a residual branch, or whole layers of a stack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._rate import p_of_timm
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.functional._depth import check_rows
from thinned.torch.nn._verb_layer import VerbLayer


class DropPath(VerbLayer):
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

    _verb = functional.drop_path
    _options = ("scale_by_keep",)
    _shown_unless = (("scale_by_keep", True),)

    def __init__(
        self,
        p: Probability | None = None,
        scale_by_keep: bool = True,
        *,
        drop_prob: Probability | None = None,
    ) -> None:
        super().__init__(p_of_timm(p, drop_prob))
        self.scale_by_keep = scale_by_keep

    @property
    def drop_prob(self) -> Probability:
        """P by timm's name."""
        return self.p  # type: ignore[no-any-return]


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

    _shown = ("p", "mode")

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
