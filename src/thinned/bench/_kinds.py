"""A network's dropout is chosen here: none, torch's, or thinned's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import thinned.torch


class BernoulliPath(nn.Module):
    """Stochastic depth as it is written by hand: a random number for each sample, one multiplication."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.keep = 1.0 - p

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same, its first dimension the samples."""
        if not self.training:
            return x
        mask = x.new_empty(len(x), *(1,) * (x.dim() - 1)).bernoulli_(self.keep)
        return x * mask.div_(self.keep)


class FusedAttention(nn.Module):
    """torch's attention as models call it."""

    def __init__(self, p: float, causal: bool) -> None:
        super().__init__()
        self.p, self.causal = p, causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """From (batch, heads, tokens, width) three times to the same."""
        p = self.p if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(query, key, value, None, p, self.causal)


@dataclass(frozen=True)
class Kind:
    """The layers of one of them, each made for a drop probability.

    Args:
        dropout: of single elements.
        path: of whole samples of a residual branch.
        lstm: makes a recurrent layer of (width, layers, p between layers).
        attention: makes a layer of (p, causal) that is given query, key and value.
    """

    dropout: Callable[[float], nn.Module]
    path: Callable[[float], nn.Module]
    lstm: Callable[[int, int, float], nn.Module]
    attention: Callable[[float, bool], nn.Module]


NONE, TORCH, OURS = "no dropout", "nn.Dropout", "thinned, unkeyed"

KINDS = {
    NONE: Kind(
        lambda p: nn.Identity(),
        lambda p: nn.Identity(),
        lambda width, layers, p: nn.LSTM(width, width, layers),
        lambda p, causal: FusedAttention(0.0, causal),
    ),
    TORCH: Kind(
        nn.Dropout,
        BernoulliPath,
        lambda width, layers, p: nn.LSTM(width, width, layers, dropout=p),
        FusedAttention,
    ),
    OURS: Kind(
        thinned.torch.nn.Dropout,
        thinned.torch.nn.DropPath,
        lambda width, layers, p: thinned.torch.nn.LSTM(width, width, layers, dropout=p),
        thinned.torch.nn.ScaledDotProductAttention,
    ),
}


def build(make: Callable[[Kind], nn.Module]) -> dict[str, nn.Module]:
    """The network of each kind, with the same weights."""
    models = {}
    for name, kind in KINDS.items():
        torch.manual_seed(0)
        models[name] = make(kind)
    return models
