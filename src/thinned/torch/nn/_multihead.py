"""This layer is attention with many heads and their projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from thinned.contract import fold_number
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_given, check_p
from thinned.torch.nn import _heads
from thinned.torch.nn._part_keys import call_key, is_off, part_key

HEADS = fold_number("heads")


class MultiheadAttention(Site, torch.nn.MultiheadAttention):
    """Equivalent to `torch.nn.MultiheadAttention`, of which it is a subclass, with a mask of a key.

    It evaluates as torch's, to the bit and by its fast path, and so does an `nn.TransformerEncoderLayer` that
    it stands in. In training the probabilities are dropped by the mask of their shape (N, num_heads, L, S),
    whatever `batch_first` and `need_weights` say. S counts what `add_bias_kv` and `add_zero_attn` append.

    The weights that are given back with `need_weights=True` are the dropped ones, as torch's are. In training
    a query that may look nowhere gets zeros, where torch gives NaN with them and zeros without.

    With `head_p` whole heads are dropped, as by `DropHead`, a decision for each sample and head; of their
    weights too. `thinned.torch.thin` has the batch share it, and then computes the kept heads only.

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
        head_p: drop probability in [0, 1] of whole heads, a tensor that fits (N, num_heads, 1, 1), or a
            schedule.

    Raises:
        TypeError: `dropout must be a real number, got …`; `query is nested …`; `attn_mask must be bool …`.
        ValueError: `dropout must be in [0, 1], got …`; `attn_mask of shape … does not fit …`; `pass attn_mask
            too …`.

    Source:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.2; Zhou et al., "Scheduled
        DropHead", EMNLP Findings 2020.

    Example:
        >>> import torch
        >>> attend = MultiheadAttention(16, 4, dropout=0.5, batch_first=True)
        >>> x = torch.ones(2, 3, 16)
        >>> output, weights = attend(x, x, x, average_attn_weights=False)
        >>> output.shape, weights.shape, bool((weights == 0).any())
        (torch.Size([2, 3, 16]), torch.Size([2, 4, 3, 3]), True)
    """

    head_p: Probability = 0.0  # of torch's modules that become these

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
        *,
        head_p: Probability = 0.0,
    ) -> None:
        p, head_p = check_p(dropout, "dropout"), check_p(head_p, "head_p")
        sizes = (embed_dim, num_heads, 0.0, bias, add_bias_kv, add_zero_attn, kdim, vdim)
        super().__init__(*sizes, batch_first, device, dtype)
        self.dropout, self.head_p = p, head_p

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
        if is_causal and attn_mask is None:
            raise ValueError("pass attn_mask too: is_causal=True only says that it is the causal mask")
        dropped = query if query.requires_grad else self.out_proj.weight
        head_p = self.rate(self.head_p)
        if is_off(head_p):
            whole = self.mask_key(call, dropped, dropout_key, "dropout_key")
        else:
            whole = call_key(self, call, dropout_key)
            self.notice(call, dropped)
        masks = (attn_mask, key_padding_mask, is_causal)
        return self._attend((query, key, value), masks, need_weights, average_attn_weights, head_p, whole)

    def _attend(
        self,
        inputs: tuple[Tensor, Tensor, Tensor],
        masks: _heads.Masks,
        need_weights: bool,
        average: bool,
        head_p: float | Tensor,
        key: MaskKey,
    ) -> tuple[Tensor, Tensor | None]:
        """The attention of all heads, of which some are then dropped."""

        def drop(x: Tensor) -> Tensor:
            place = self.place(x, 0)
            return functional.drop_head(x, head_p, True, key=part_key(key, HEADS), **place)

        change = None if is_off(head_p) else drop
        return self._attended(self, inputs, masks, need_weights, average, change, key)

    def _attended(
        self,
        maps: Any,
        inputs: tuple[Tensor, Tensor, Tensor],
        masks: _heads.Masks,
        need_weights: bool,
        average: bool,
        change: Callable[[Tensor], Tensor] | None,
        dropout_key: MaskKey,
    ) -> tuple[Tensor, Tensor | None]:
        """Output and weights by the projections of some heads; `change` drops heads."""
        attn_mask, key_padding_mask, is_causal = masks
        batched = inputs[0].dim() == 3
        q, k, v = (_heads.split(x, maps.num_heads, self.batch_first) for x in _heads.projected(maps, *inputs))
        k, v = _heads.extended(maps, k, v)
        extra = (maps.bias_k is not None) + self.add_zero_attn
        shape = (*q.shape[:-1], k.shape[-2])
        mask = _heads.merged(attn_mask, key_padding_mask, shape, extra)
        p, place = self.rate(self.dropout), self.place(q, 0, shape)
        weights = None
        if need_weights:
            output, weights = _heads.weighted(q, k, v, mask, p, dropout_key, place)
        else:
            causal = is_causal and key_padding_mask is None
            output = functional.scaled_dot_product_attention(
                q, k, v, None if causal else mask, p, causal, training=True, dropout_key=dropout_key, **place
            )
        if change is not None:
            output, weights = change(output), None if weights is None else change(weights)
        output = _heads.joined(output, batched, self.batch_first)
        output = linear(output, maps.out_proj.weight, maps.out_proj.bias)
        if weights is not None:
            weights = weights.mean(1) if average else weights
            weights = weights if batched else weights.squeeze(0)
        return output, weights
