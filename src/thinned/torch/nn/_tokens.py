"""These layers drop tokens: words of a text or of its table, and patches of a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned._arguments import check_tokens
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.nn._verb_layer import VerbLayer


class WordDropout(VerbLayer):
    """Replace each token by another, the unknown word's as a rule, with probability p.

    Args:
        p: probability in [0, 1], or a schedule.
        replacement: what a token is replaced by.
        protected: tokens that are never replaced: padding, beginning and end.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods", ACL 2015.

    Example:
        >>> import torch
        >>> layer = WordDropout(1.0, replacement=3, protected=(0,))
        >>> layer(torch.tensor([[7, 8, 0]]))
        tensor([[3, 3, 0]])
    """

    _verb = functional.word_dropout
    _options = ("replacement", "protected")
    _shown = ("p", "replacement")

    def __init__(self, p: Probability, replacement: int, protected: tuple[int, ...] = ()) -> None:
        super().__init__(p)
        check_tokens(replacement, protected)
        self.replacement, self.protected = replacement, tuple(protected)


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

    _shown = ("p",)

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


class PatchDropout(Site):
    """Equivalent to timm's `PatchDropout` with `ordered=True`: a fixed number of tokens goes on.

    Args:
        p: share of tokens that is dropped, a number in [0, 1], or a schedule; at least one stays.
        prefix_tokens: so many at the beginning, class tokens, always stay.

    Raises:
        TypeError: `p must be a real number, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `patch_dropout takes (N, L, …) with more than …`.

    Source:
        Yue Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023.

    Example:
        >>> import torch
        >>> PatchDropout(0.5)(torch.ones(2, 197, 8)).shape
        torch.Size([2, 99, 8])
    """

    _shown = ("p", "prefix_tokens")

    def __init__(self, p: Probability = 0.5, prefix_tokens: int = 1) -> None:
        super().__init__()
        self.p = check_p(p)
        self.prefix_tokens = prefix_tokens

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Fewer tokens in training, by `key` if given; `call` tells calls of one step apart."""
        tokens = (*input.shape[:1], (input.shape[1] if input.dim() > 1 else 0) - self.prefix_tokens)
        return functional.patch_dropout(
            input,
            self.rate(self.p),  # type: ignore[arg-type]
            self.training,
            prefix_tokens=self.prefix_tokens,
            key=self.mask_key(call, input, key),
            **self.place(input, 0, tokens),
        )
