"""These layers drop single elements or what a noise shape groups, or multiply by normal noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from thinned._arguments import check_mode
from thinned.torch import functional
from thinned.torch._gaussian import check_finite
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.nn._verb_layer import VerbLayer
from thinned.torch.schedules import Schedule


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

    _shown_unless = (("noise_shape", None), ("mode", "inverted"))

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


class GaussianDropout(VerbLayer):
    """Multiply by 1 + σ z in training, with σ = √(p/(1−p)) and a standard normal z for each element.

    Equivalent to `keras.layers.GaussianDropout`.

    Args:
        p: in [0, 1), the dropout probability whose variance the noise has; a tensor of them that fits the
            input, or a schedule.
        inplace: write to the input itself.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; `GaussianDropout needs p < 1, got …`.

    Source:
        CONTRACT.md, section 6; Srivastava et al., "Dropout", JMLR 2014, section 10.

    Example:
        >>> import torch
        >>> GaussianDropout(0.2)(torch.ones(20, 16)).shape
        torch.Size([20, 16])
    """

    _verb = functional.gaussian_dropout
    _options = ("inplace",)
    _batch = None
    _shown = ("p", "inplace")

    def __init__(self, p: Probability = 0.5, inplace: bool = False) -> None:
        super().__init__(p)
        if not isinstance(p, Schedule):
            check_finite(self.p)
        self.inplace = inplace
