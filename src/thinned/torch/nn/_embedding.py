"""Dropout of whole words."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class EmbeddingDropout(Site):
    """Equivalent to an `nn.Embedding` of which whole words are dropped; its table is never written to.

    Args:
        embedding: the table, with its options.
        p: drop probability in [0, 1]; a tensor, (words, 1) for one of each word; or a schedule.

    Raises:
        TypeError: `embedding must be a torch.nn.Embedding, got …`; `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016; Merity et al., "Regularizing and Optimizing LSTM Language Models", ICLR 2018.

    Example:
        >>> layer = EmbeddingDropout(torch.nn.Embedding(100, 8), 0.1)
        >>> layer(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, embedding: torch.nn.Embedding, p: Probability = 0.1) -> None:
        super().__init__()
        if not isinstance(embedding, torch.nn.Embedding):
            raise TypeError(f"embedding must be a torch.nn.Embedding, got {type(embedding).__name__}")
        self.embedding = embedding
        self.p = check_p(p)

    @property
    def weight(self) -> Tensor:
        """The table."""
        return self.embedding.weight

    @property
    def num_embeddings(self) -> int:
        """Words."""
        return self.embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Features."""
        return self.embedding.embedding_dim

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Look up, with words dropped in training; `call` tells calls of one step apart."""
        table = self.embedding
        return functional.embedding_dropout(
            input,
            table.weight,
            self.rate(self.p),
            self.training,
            padding_idx=table.padding_idx,
            max_norm=table.max_norm,
            norm_type=table.norm_type,
            scale_grad_by_freq=table.scale_grad_by_freq,
            sparse=table.sparse,
            key=self.mask_key(call, table.weight, key),
        )

    def extra_repr(self) -> str:
        """In torch's manner."""
        return f"p={self.p}"
