"""PatchDropout: some tokens of a picture alone go on."""

from __future__ import annotations

from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class PatchDropout(Site):
    """Equivalent to timm's `PatchDropout` with `ordered=True`: a fixed number of tokens goes on.

    Args:
        p: share of tokens that is dropped, a number in [0, 1], or a schedule; at least one stays.
        prefix_tokens: so many at the beginning, class tokens, always stay.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `patch_dropout takes (N, L, …) with more than …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import torch
        >>> PatchDropout(0.5)(torch.ones(2, 197, 8)).shape
        torch.Size([2, 99, 8])
    """

    def __init__(self, p: Probability = 0.5, prefix_tokens: int = 1) -> None:
        super().__init__()
        self.p = check_p(p)
        self.prefix_tokens = prefix_tokens

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Fewer tokens in training, by `key` if given; `call` tells calls of one step apart."""
        tokens = (*input.shape[:1], (input.shape[1] if input.dim() > 1 else 0) - self.prefix_tokens)
        return functional.patch_dropout(
            input,
            self.rate(self.p),  # type: ignore[arg-type]
            self.training,
            prefix_tokens=self.prefix_tokens,
            key=self.mask_key(call, input, key),
            **self.place(input, 0, tokens),
        )

    def extra_repr(self) -> str:
        """The share and the prefix."""
        return f"p={self.p}, prefix_tokens={self.prefix_tokens}"
