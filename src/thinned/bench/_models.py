"""The two networks that are trained, with the class that does their dropout as an argument."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Makes the layer for a drop probability.
Dropout = Callable[[float], nn.Module]


def paper_network(dropout: Dropout, hidden: int = 1024) -> nn.Module:
    """The network of the dropout paper for handwritten digits: 784-1024-1024-1024-10.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 6.1 and appendix B.
    """
    layers: list[nn.Module] = [dropout(0.2)]
    for size in (784, hidden, hidden):
        layers += [nn.Linear(size, hidden), nn.ReLU(), dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


class Attention(nn.Module):
    """Causal attention over several heads, its dropout on the probabilities.

    Args:
        dropout: makes the dropout layer.
        width: of the input and the output, a multiple of `heads`.
        heads: how many.
        p: drop probability.
    """

    def __init__(self, dropout: Dropout, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads = heads
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, tokens, width) to the same."""
        batch, tokens, width = x.shape
        heads = self.inward(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        shares = self.dropout(scores.masked_fill(future, -math.inf).softmax(-1))
        out: Tensor = self.outward((shares @ value).transpose(1, 2).reshape(x.shape))
        return out


class Block(nn.Module):
    """One GPT block: attention, then two dense layers, each normalised before and added to its input."""

    def __init__(self, dropout: Dropout, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(dropout, width, heads, p), dropout(p))
        dense = (nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.think = nn.Sequential(nn.LayerNorm(width), *dense, dropout(p))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, tokens, width) to the same."""
        x = x + self.attend(x)
        out: Tensor = x + self.think(x)
        return out


def gpt_blocks(dropout: Dropout, width: int = 256, heads: int = 8) -> nn.Module:
    """Two GPT blocks, p 0.1."""
    return nn.Sequential(*(Block(dropout, width, heads, 0.1) for _ in range(2)))
