"""`attn_implementation="thinned"` gives transformers' models our attention.

Importing this module registers the name with transformers, which looks it up in each call. A model then
evaluates by transformers' own "sdpa", and generates what it generates; in training it drops the probabilities
of attention by the mask of a key, of their shape (batch, heads, queries, keys). `thinned.torch.convert` gives
each attention a site for `thinned.torch.keyed`.

    import thinned.torch.transformers

    model = AutoModel.from_config(config, attn_implementation="thinned")
    model = thinned.torch.keyed(thinned.torch.convert(model).model, seed=1)
"""

from __future__ import annotations

from typing import Any

from thinned._installed import needs

needs("thinned.torch.transformers", "transformers", "transformers")

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from thinned.torch import functional
from thinned.torch._conversion import _attention_functions
from thinned.torch.nn._part_keys import is_off

__all__ = ["attention"]


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: Any = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' "sdpa" does, and drop probabilities by a key: what "thinned" stands for.

    Models call it. The key is that of the module's site, which `thinned.torch.convert` gives it and
    `thinned.torch.keyed` a key; without one a key is drawn from torch's default CPU generator.

    Args:
        module: the attention's; its `training` decides, and `is_causal` and `num_key_value_groups` are read.
        query: (batch, heads, queries, E).
        key: (batch, heads or fewer, keys, E).
        value: (batch, as many as key, keys, Ev).
        attention_mask: bool, True where a query may look, or floating and added; broadcasts to (batch, heads,
            queries, keys).
        dropout: drop probability in [0, 1], or a schedule where the module has a site.
        scaling: of the scores; 1/√E if not given.
        is_causal: whether queries look at no later key; the module's if not given. With a mask it is not
            asked.
        position_bias: floating, added to the scores.
        kwargs: whatever else the model hands over; `softcap` and `s_aux` are refused.

    Returns:
        (batch, queries, heads, Ev), and None for the weights.

    Raises:
        ValueError: `softcap=… changes the scores …`; `dropout_p must be in [0, 1], got …`.

    Source:
        transformers' guide to its attention interface; CONTRACT.md, section 3.

    Example:
        >>> import torch, thinned
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> config = BertConfig(vocab_size=9, **sizes, intermediate_size=32, attn_implementation="thinned")
        >>> model = thinned.torch.convert(BertModel(config)).model.train()
        >>> words = torch.arange(6).reshape(2, 3)
        >>> model = thinned.torch.keyed(model, seed=1, check={"input_ids": words})
        >>> with torch.no_grad():
        ...     a, b = model(words).last_hidden_state, model(words).last_hidden_state
        >>> torch.equal(a, b)
        True
    """
    for name in ("softcap", "s_aux"):
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{name}={kwargs[name]} changes the scores, which scaled_dot_product_attention does not: "
                'take attn_implementation="eager"'
            )
    if not module.training or is_off(dropout):
        more = {} if position_bias is None else {"position_bias": position_bias}
        given: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, 0.0, scaling, is_causal, **more, **kwargs
        )
        return given
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    if causal and key.shape[2] > query.shape[2]:  # a cache that is longer than what it holds
        key, value = (x[:, :, : query.shape[2]] for x in (key, value))
    if position_bias is not None:
        bias = position_bias[..., : key.shape[2]]
        attention_mask, causal = _biased(bias, attention_mask, causal, query, key), False
    site, enable_gqa = _attention_functions.site_of(module), getattr(module, "num_key_value_groups", 1) > 1
    call = (query, key, value, attention_mask, dropout, causal, scaling, enable_gqa)
    output = functional.scaled_dot_product_attention(*call, training=True) if site is None else site(*call)
    return output.transpose(1, 2).contiguous(), None


def _biased(bias: Tensor, mask: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor:
    """Returns one added mask, of a bias and of what is forbidden."""
    if causal:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    if mask is None:
        return bias
    # As transformers' own, whose rows that look nowhere are uniform.
    return torch.where(mask, bias, torch.finfo(bias.dtype).min) if mask.dtype == torch.bool else bias + mask


AttentionInterface.register(_attention_functions.IMPLEMENTATION, attention)
AttentionMaskInterface.register(_attention_functions.IMPLEMENTATION, sdpa_mask)
