"""Concrete dropout in front of a layer."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from thinned._concrete import check_positive, divergence
from thinned.torch import functional
from thinned.torch._site import MaskKey
from thinned.torch.nn._learned import Learned, at_least_float32

_OPERATORS = SimpleNamespace(exp=torch.exp, sigmoid=torch.sigmoid, softplus=torch.nn.functional.softplus)


class ConcreteDropout(Learned):
    """Drop the inputs of a linear or convolutional layer by a relaxed mask whose p is learned.

    Its `regularization()` belongs to the loss, or p only falls; `thinned.torch.regularization(model)` adds
    those of all layers.

    Args:
        layer: nn.Linear, or nn.Conv1d to Conv3d, whose channels are then dropped as wholes.
        p: where p begins, in (0, 1).
        samples: N, the size of the training set.
        length_scale: l, the prior's: a weight's standard deviation is 1/l.
        temperature: of the relaxed mask, positive.

    Raises:
        TypeError: `layer must be a Linear or Conv1d to Conv3d, got …`.
        ValueError: `p must be inside (0, 1), got …`; `samples must be positive, got …`; `temperature …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017.

    Example:
        >>> import torch
        >>> layer = ConcreteDropout(torch.nn.Linear(8, 4), samples=1000)
        >>> layer(torch.ones(2, 8)).shape, round(layer.p.item(), 4)
        (torch.Size([2, 4]), 0.1)
    """

    def __init__(
        self,
        layer: torch.nn.Module,
        p: float = 0.1,
        *,
        samples: int,
        length_scale: float = 1e-2,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(layer, p, samples)
        check_positive(length_scale=length_scale, temperature=temperature)
        self.length_scale, self.temperature = length_scale, temperature

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The layer of what is kept; by `key` if given; `call` tells calls of one step apart."""
        kept = functional.concrete_dropout(
            input,
            self.p,
            self.training,
            temperature=self.temperature,
            key=self.mask_key(call, input, key),
            noise_shape=self.noise_shape(input),
            **self.place(input, 0),
        )
        return self.layer(kept)  # type: ignore[no-any-return]

    def regularization(self) -> Tensor:
        """The divergence from the prior over N: (l²/(2(1−p)) ‖W‖² − K H(p)) / N, of K inputs or channels."""
        weight, logit = at_least_float32(self.layer.weight), at_least_float32(self.p_logit)
        inputs = weight.shape[1] * getattr(self.layer, "groups", 1)
        prior = (inputs, self.samples, self.length_scale)
        return divergence(logit, weight.square().sum(), *prior, _OPERATORS)  # type: ignore[no-any-return]
