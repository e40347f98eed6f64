"""Attention that a module calls by a name, as transformers do, gets a site here."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from thinned.torch import _compat, functional
from thinned.torch._conversion import _functional
from thinned.torch._site import Probability, Site

IMPLEMENTATION: Final = "thinned"
CHILD: Final = "thinned_attention"
REMEDY: Final = (
    "it hands its attention to a function of transformers: import thinned.torch.transformers, call "
    f'model.set_attn_implementation("{IMPLEMENTATION}") and convert again'
)


class HandedAttention(Site):
    """The dropout of a module's attention: a site that has a name, a key and a step, and no rate of its own.

    `convert` gives one to each module of transformers whose attention is ours. The module says its rate in
    each call.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        dropout_p: Probability,
        is_causal: bool,
        scale: float | None,
        enable_gqa: bool,
    ) -> Tensor:
        """`functional.scaled_dot_product_attention` in training."""
        shape = (*query.shape[:-1], key.shape[-2])
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask,
            self.rate(dropout_p),
            is_causal,
            scale,
            enable_gqa,
            training=True,
            dropout_key=self.mask_key(None, query),
            **self.place(query, 0, shape),
        )


def hands_over(module: torch.nn.Module) -> bool:
    """Tells whether a module asks transformers for its attention, by whatever name."""
    kind: Any = type(module)
    return _functional.asks_transformers(kind)


def is_ours(module: torch.nn.Module) -> bool:
    """Tells whether it asks by our name."""
    config = getattr(module, "config", None)
    return hands_over(module) and _compat.attention_asked_for(config) == IMPLEMENTATION


def site_of(module: torch.nn.Module) -> HandedAttention | None:
    """The site that `convert` gave it."""
    site = getattr(module, CHILD, None)
    return site if isinstance(site, HandedAttention) else None


def give_site(module: torch.nn.Module) -> None:
    """Give it one, in its own mode; none is replaced."""
    if site_of(module) is None:
        module.add_module(CHILD, HandedAttention().train(module.training))


def take_site(module: torch.nn.Module) -> None:
    """Take it away."""
    delattr(module, CHILD)
