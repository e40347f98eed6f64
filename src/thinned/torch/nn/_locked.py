"""Locked (variational) dropout uses one mask for all time steps of a sequence."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thinned.torch import functional
from thinned.torch._placement import Place
from thinned.torch._site import MaskKey, Probability, Site, check_p
from thinned.torch.functional._locked import check_batch_first

Sequence = TypeVar("Sequence", Tensor, PackedSequence)


class LockedDropout(Site):
    """Dropout with one mask for each sample and feature, shared over time.

    Args:
        p: drop probability in [0, 1], a tensor of them that fits the input, or a schedule.
        batch_first: True for (B, T, F), as fastai's `RNNDropout` has it; False for (T, B, F), as torchnlp's
            `LockedDropout` has it and torch's recurrent layers by default.

    Raises:
        TypeError: `p must be a real number, got …`; `batch_first must be True or False, got …`.
        ValueError: `p must be in [0, 1], got …`; in a call, `locked_dropout takes …, got shape …`.

    Source:
        Gal, Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016; Merity et al., "Regularizing and Optimizing LSTM Language Models", ICLR 2018.

    Example:
        >>> import torch
        >>> y = LockedDropout(0.5, batch_first=True)(torch.ones(4, 7, 16))
        >>> bool((y == y[:, :1]).all())
        True
    """

    _shown = ("p", "batch_first")

    def __init__(self, p: Probability = 0.5, *, batch_first: bool) -> None:
        super().__init__()
        check_batch_first(batch_first)
        self.p = check_p(p)
        self.batch_first = batch_first

    def forward(self, input: Sequence, *, key: MaskKey = None, call: int | None = None) -> Sequence:
        """Drop in training, by `key` if given; `call` tells calls of a keyed layer in one step apart."""
        return functional.locked_dropout(
            input,
            self.rate(self.p),
            self.training,
            batch_first=self.batch_first,
            key=self.mask_key(call, input.data if isinstance(input, PackedSequence) else input, key),
            **self._place(input),
        )

    def _place(self, input: Tensor | PackedSequence) -> Place:
        if not isinstance(input, PackedSequence):
            return self.place(input, 0 if self.batch_first else 1)
        times, samples = len(input.batch_sizes), int(input.batch_sizes[0])
        return self.place(input.data, 1, (times, samples, input.data.shape[-1]))
