"""The networks that are trained are defined here, with their dropout as an argument."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from thinned.bench._kinds import Kind


def paper_network(kind: Kind, hidden: int = 1024) -> nn.Module:
    """The network of the dropout paper for handwritten digits: 784-1024-1024-1024-10.

    Source:
        Srivastava et al., "Dropout", JMLR 2014, section 6.1 and appendix B.
    """
    layers: list[nn.Module] = [kind.dropout(0.2)]
    for size in (784, hidden, hidden):
        layers += [nn.Linear(size, hidden), nn.ReLU(), kind.dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


class Attention(nn.Module):
    """Attention over several heads, its dropout on the probabilities.

    Args:
        kind: makes the dropout layer.
        width: of the input and the output, a multiple of `heads`.
        heads: how many.
        p: drop probability.
        causal: whether a token sees only those before it.
        fused: whether attention is one call of a function, not a matrix of probabilities and a layer.
    """

    def __init__(
        self, kind: Kind, width: int, heads: int, p: float, causal: bool, fused: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.fused = kind.attention(p, causal) if fused else None
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = kind.dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, tokens, width) to the same."""
        batch, tokens, width = x.shape
        heads = self.inward(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        out: Tensor
        if self.fused is not None:
            out = self.outward(self.fused(query, key, value).transpose(1, 2).reshape(x.shape))
            return out
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        if self.causal:
            future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -math.inf)
        shares = self.dropout(scores.softmax(-1))
        out = self.outward((shares @ value).transpose(1, 2).reshape(x.shape))
        return out


class Block(nn.Module):
    """One transformer block: attention, then two dense layers, each normalised before and added to its input.

    Args:
        kind: makes the dropout layers.
        width: of the input and the output, a multiple of `heads`.
        heads: how many.
        p: drop probability of elements.
        path_p: drop probability of a sample's branch.
        causal: whether a token sees only those before it.
        fused: as in `Attention`.
    """

    def __init__(
        self,
        kind: Kind,
        width: int,
        heads: int,
        p: float,
        path_p: float = 0.0,
        causal: bool = True,
        fused: bool = False,
    ) -> None:
        super().__init__()
        ends = [kind.path(path_p)] if path_p else []
        attention = Attention(kind, width, heads, p, causal, fused)
        self.attend = nn.Sequential(nn.LayerNorm(width), attention, kind.dropout(p), *ends)
        dense = (nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        ends = [kind.path(path_p)] if path_p else []
        self.think = nn.Sequential(nn.LayerNorm(width), *dense, kind.dropout(p), *ends)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, tokens, width) to the same."""
        x = x + self.attend(x)
        out: Tensor = x + self.think(x)
        return out


def gpt_blocks(kind: Kind, width: int = 256, heads: int = 8, fused: bool = False) -> nn.Module:
    """Two GPT blocks, p 0.1."""
    return nn.Sequential(*(Block(kind, width, heads, 0.1, fused=fused) for _ in range(2)))


class VisionTransformer(nn.Module):
    """A small ViT: patches of 4 x 4 pixels, four blocks, dropout 0.1, stochastic depth up to 0.2.

    Args:
        kind: makes the dropout layers.
        width: of a token, a multiple of 4.
        tokens: patches of an image.

    Source:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; stochastic depth as in Touvron et al.,
        "Training Data-Efficient Image Transformers", ICML 2021.
    """

    def __init__(self, kind: Kind, width: int, tokens: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, kernel_size=4, stride=4)
        self.places = nn.Parameter(torch.zeros(tokens, width))
        depths = [0.05 * (i + 1) for i in range(4)]
        blocks = (Block(kind, width, 4, 0.1, path_p, causal=False) for path_p in depths)
        self.body = nn.Sequential(kind.dropout(0.1), *blocks, nn.LayerNorm(width))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """From (batch, 3, height, width) to (batch, 10)."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.places
        out: Tensor = self.head(self.body(x).mean(1))
        return out


class LanguageModel(nn.Module):
    """Two LSTM layers over words: dropout 0.5 of the embedding, between the layers and of the output.

    Source:
        Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization", 2014: the medium model,
        with a smaller vocabulary.
    """

    def __init__(self, kind: Kind, words: int, width: int) -> None:
        super().__init__()
        self.embed, self.read = nn.Embedding(words, width), nn.Linear(width, words)
        self.inward, self.outward = kind.dropout(0.5), kind.dropout(0.5)
        self.lstm = kind.lstm(width, 2, 0.5)

    def forward(self, text: Tensor) -> Tensor:
        """From word numbers (time, batch) to scores (time, batch, words)."""
        x, _ = self.lstm(self.inward(self.embed(text)))
        out: Tensor = self.read(self.outward(x))
        return out
