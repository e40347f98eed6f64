"""ShakeDrop and Shake-Shake scale branches at random."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site
from thinned.torch.nn._verb_layer import VerbLayer


class ShakeDrop(VerbLayer):
    """Scale a residual branch by a random number where it would be dropped, in the backward pass by another.

    Args:
        p: probability in [0, 1], or a schedule; the paper lets it rise with the depth, to 0.5.
        alpha: between which numbers the forward pass's is uniform.
        beta: between which numbers the backward pass's is uniform.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `shake_drop takes (N, …), got shape ()`.

    Source:
        Yamada, Iwamura, Akiba and Kise, "ShakeDrop Regularization for Deep Residual Learning", IEEE Access
        2019.

    Example:
        >>> import torch
        >>> ShakeDrop(0.5)(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """

    _verb = functional.shake_drop
    _options = ("alpha", "beta")
    _shown = ("p", "alpha", "beta")

    _evaluates_by_p = True

    def __init__(
        self,
        p: Probability = 0.5,
        alpha: tuple[float, float] = (-1.0, 1.0),
        beta: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(p)
        self.alpha, self.beta = alpha, beta


class ShakeShake(Site):
    """Mix two branches by a random share for each sample, in the backward pass by another one.

    Source:
        Gastaldi, "Shake-Shake regularization", 2017.

    Example:
        >>> import torch
        >>> ShakeShake()(torch.ones(2, 3), torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """

    def forward(
        self, input: Tensor, other: Tensor, *, key: MaskKey = None, call: int | None = None
    ) -> Tensor:
        """Mix in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.shake_shake(
            input, other, self.training, key=self.mask_key(call, input, key), **self.place(input, 0)
        )
