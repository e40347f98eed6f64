"""Attention whose probabilities are dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class ScaledDotProductAttention(Site):
    """`functional.scaled_dot_product_attention` as a module, so that its dropout has a place in the model.

    A call of torch's function inside a forward pass is invisible from outside: no tool can switch its dropout
    on or off, and it has no name to make a key of. It has no parameters.

    Args:
        dropout_p: drop probability in [0, 1], a tensor of them that fits (…, L, S), or a schedule.
        is_causal: query i looks at the first i + 1 keys.
        scale: of the scores; 1/√E if not given.
        enable_gqa: each head of key and value serves several of query's.

    Raises:
        TypeError: `dropout_p must be a real number, got …`.
        ValueError: `dropout_p must be in [0, 1], got …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Example:
        >>> import torch
        >>> attend = ScaledDotProductAttention(dropout_p=0.1, is_causal=True)
        >>> q = k = v = torch.ones(2, 8, 16, 32)
        >>> attend(q, k, v).shape
        torch.Size([2, 8, 16, 32])
    """

    def __init__(
        self,
        dropout_p: Probability = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        super().__init__()
        self.dropout_p = check_p(dropout_p, "dropout_p")
        self.is_causal = is_causal
        self.scale = scale
        self.enable_gqa = enable_gqa

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *,
        dropout_key: MaskKey = None,
        call: int | None = None,
    ) -> Tensor:
        """(…, L, Ev), dropped by `dropout_key` if given; `call` tells calls of one step apart."""
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]) if self.has_rows else ()
        probabilities = (*batch, query.shape[-2], key.shape[-2])
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask,
            self.rate(self.dropout_p),
            self.is_causal,
            self.scale,
            self.enable_gqa,
            training=self.training,
            dropout_key=self.mask_key(call, query, dropout_key, "dropout_key"),
            **self.place(query, 0, probabilities),
        )

    def extra_repr(self) -> str:
        """Show what differs from torch's defaults."""
        shown = f"dropout_p={self.dropout_p}"
        for name, default in (("is_causal", False), ("scale", None), ("enable_gqa", False)):
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)}"
        return shown
