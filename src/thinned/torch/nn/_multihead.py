"""Attention with many heads and their projections."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_given, check_p
from thinned.torch.nn import _heads


class MultiheadAttention(Site, torch.nn.MultiheadAttention):
    """Equivalent to `torch.nn.MultiheadAttention`, of which it is a subclass, with a mask of a key.

    It evaluates as torch's, to the bit and by its fast path, and so does an `nn.TransformerEncoderLayer` that
    it stands in. In training the probabilities are dropped by the mask of their shape (N, num_heads, L, S),
    whatever `batch_first` and `need_weights` say. S counts what `add_bias_kv` and `add_zero_attn` append.

    The weights that are given back with `need_weights=True` are the dropped ones, as torch's are. In training
    a query that may look nowhere gets zeros, where torch gives NaN with them and zeros without.

    Args:
        embed_dim: width of the model.
        num_heads: which divide it.
        dropout: drop probability in [0, 1], a tensor of them that fits (N, num_heads, L, S), or a schedule.
        bias: of the projections.
        add_bias_kv: whether a learned key and value are appended to the others.
        add_zero_attn: whether a key and value of zeros are.
        kdim: width of key; embed_dim if not given.
        vdim: width of value; embed_dim if not given.
        batch_first: input and output are (N, L, E), not (L, N, E).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: `dropout must be a real number, got …`; `query is nested …`; `attn_mask must be bool …`.
        ValueError: `dropout must be in [0, 1], got …`; `attn_mask of shape … does not fit …`; `pass attn_mask
            too …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.2.

    Example:
        >>> import torch
        >>> attend = MultiheadAttention(16, 4, dropout=0.5, batch_first=True)
        >>> x = torch.ones(2, 3, 16)
        >>> output, weights = attend(x, x, x, average_attn_weights=False)
        >>> output.shape, weights.shape, bool((weights == 0).any())
        (torch.Size([2, 3, 16]), torch.Size([2, 4, 3, 3]), True)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: Probability = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        p = check_p(dropout, "dropout")
        sizes = (embed_dim, num_heads, 0.0, bias, add_bias_kv, add_zero_attn, kdim, vdim)
        super().__init__(*sizes, batch_first, device, dtype)
        self.dropout = p

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        dropout_key: MaskKey = None,
        call: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Output and weights, as torch's; `dropout_key` and `call` as in `ScaledDotProductAttention`."""
        check_given(dropout_key, call, "dropout_key")
        if not self.training:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        _heads.check(query, key, value, attn_mask, key_padding_mask)
        batched = query.dim() == 3
        q, k, v = (
            _heads.split(x, self.num_heads, self.batch_first)
            for x in _heads.projected(self, query, key, value)
        )
        k, v = _heads.extended(self, k, v)
        extra = (self.bias_k is not None) + self.add_zero_attn
        shape = (*q.shape[:-1], k.shape[-2])
        mask = _heads.merged(attn_mask, key_padding_mask, shape, extra)
        if is_causal and attn_mask is None:
            raise ValueError("pass attn_mask too: is_causal=True only says that it is the causal mask")
        p, place = self.rate(self.dropout), self.place(q, 0, shape)
        dropped = query if query.requires_grad else self.out_proj.weight
        dropout_key = self.mask_key(call, dropped, dropout_key, "dropout_key")
        weights = None
        if need_weights:
            output, weights = _heads.weighted(q, k, v, mask, p, dropout_key, place)
        else:
            causal = is_causal and key_padding_mask is None
            output = functional.scaled_dot_product_attention(
                q, k, v, None if causal else mask, p, causal, training=True, dropout_key=dropout_key, **place
            )
        output = _heads.joined(output, batched, self.batch_first)
        output = linear(output, self.out_proj.weight, self.out_proj.bias)
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        return output, weights
