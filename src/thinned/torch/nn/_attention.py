"""These layers drop attention's probabilities, its heads, or keys before the softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.contract import check_integer
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.nn._verb_layer import VerbLayer


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

    _shown = ("dropout_p",)
    _shown_unless = (("is_causal", False), ("scale", None), ("enable_gqa", False))

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


class DropKey(VerbLayer):
    """Softmax of attention's scores, where in training each query does not see a key with probability p.

    Args:
        p: probability in [0, 1], a tensor of them that fits the scores, or a schedule.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Bonan Li et al., "DropKey for Vision Transformer", CVPR 2023, which lets p fall with the depth.

    Example:
        >>> import torch
        >>> DropKey(0.1)(torch.zeros(2, 4, 5, 5)).shape
        torch.Size([2, 4, 5, 5])
    """

    _verb = functional.drop_key

    def __init__(self, p: Probability = 0.1) -> None:
        super().__init__(p)


class DropHead(Site):
    """Dropout of whole heads, between attention and the projection of its output.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        dim: of the heads, in (N, …, H, …).
        shared: one decision a head for all samples.

    Raises:
        TypeError: `p must be a real number, got …`; `dim must be an integer, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `dim=… is no dimension of heads in shape …`.

    Source:
        Zhou et al., "Scheduled DropHead: A Regularization Method for Transformer Models", EMNLP Findings
        2020.

    Example:
        >>> import torch
        >>> DropHead(0.2)(torch.ones(8, 4, 16, 32)).shape
        torch.Size([8, 4, 16, 32])
    """

    _shown = ("p",)
    _shown_unless = (("dim", 1), ("shared", False))

    def __init__(self, p: Probability, dim: int = 1, shared: bool = False) -> None:
        super().__init__()
        self.p, self.dim, self.shared = check_p(p), check_integer("dim", dim), shared

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Drop heads in training, by `key` if given; `call` tells calls of one step apart."""
        place = {} if self.shared else self.place(input, 0)
        return functional.drop_head(
            input,
            self.rate(self.p),
            self.training,
            self.dim,
            self.shared,
            key=self.mask_key(call, input, key),
            **place,
        )
