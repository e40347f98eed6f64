"""Word dropout: tokens of a text replaced before they are looked up."""

from __future__ import annotations

from torch import Tensor

from thinned._arguments import check_tokens
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class WordDropout(Site):
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

    def __init__(self, p: Probability, replacement: int, protected: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.p = check_p(p)
        check_tokens(replacement, protected)
        self.replacement, self.protected = replacement, tuple(protected)

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """Replace in training, by `key` if given; `call` tells calls of one step apart."""
        return functional.word_dropout(
            input,
            self.rate(self.p),
            self.replacement,
            self.training,
            protected=self.protected,
            key=self.mask_key(call, input, key),
            **self.place(input, 0),
        )

    def extra_repr(self) -> str:
        """The rate and the replacement."""
        return f"p={self.p}, replacement={self.replacement}"
