"""Multi-sample dropout applies several masks to the output of one trunk."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.contract import check_integer
from thinned.torch import functional
from thinned.torch._site import MaskKey, Probability, Site, check_p


class MultiSampleDropout(Site):
    """Run a head on several dropped copies of its input, and average what it gives.

    The copies' masks are one mask of shape (samples, …): copy k has its part k. In evaluation the head runs
    once. For a mean of losses instead, as in the paper, take `samples=1` apart: `head` may be the loss.

    Args:
        head: what runs on each copy: a classifier, with the loss in it or without.
        p: drop probability in [0, 1], or a schedule.
        samples: how many copies.

    Raises:
        TypeError: `p must be a real number, got …`; `head must be a torch.nn.Module, got …`.
        ValueError: `p must be in [0, 1], got …`; `samples must be positive, got …`.

    Source:
        Inoue, "Multi-Sample Dropout for Accelerated Training and Better Generalization", 2019.

    Example:
        >>> layer = MultiSampleDropout(torch.nn.Linear(8, 3), 0.5, samples=4)
        >>> layer(torch.ones(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, head: torch.nn.Module, p: Probability = 0.5, samples: int = 8) -> None:
        super().__init__()
        if not isinstance(head, torch.nn.Module):
            raise TypeError(f"head must be a torch.nn.Module, got {type(head).__name__}")
        if check_integer("samples", samples) < 1:
            raise ValueError(f"samples must be positive, got {samples}")
        self.head = head
        self.p = check_p(p)
        self.samples = samples

    def forward(self, input: Tensor, *, key: MaskKey = None, call: int | None = None) -> Tensor:
        """The mean over the copies, by `key` if given; `call` tells calls of one step apart."""
        copies = input.expand(self.samples, *input.shape)
        dropped = functional.dropout(
            copies,
            self.rate(self.p),
            self.training,
            key=self.mask_key(call, input, key),
            **self.place(input, 1, copies.shape),
        )
        if dropped is copies:
            return self.head(input)  # type: ignore[no-any-return]
        return torch.stack([self.head(each) for each in dropped.unbind()]).mean(0)

    def extra_repr(self) -> str:
        """The rate and the copies."""
        return f"p={self.p}, samples={self.samples}"
