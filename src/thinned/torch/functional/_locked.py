"""Locked (variational) dropout uses one mask for all time steps of a sequence."""

from __future__ import annotations

from typing import Any, TypeVar, Unpack, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, Source
from thinned.torch.functional._dropout import dropout
from thinned.torch.functional._signatures import Rate

Sequence = TypeVar("Sequence", Tensor, PackedSequence)


@overload
def locked_dropout(
    input: Sequence, p: Rate, training: bool, *, batch_first: bool, **source: Unpack[Source]
) -> Sequence: ...
@overload
def locked_dropout(
    input: Sequence, p: Rate = 0.5, *, training: bool, batch_first: bool, **source: Unpack[Source]
) -> Sequence: ...
@overridable
def locked_dropout(
    input: Tensor | PackedSequence,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    *,
    batch_first: bool,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor | PackedSequence:
    """Dropout with one mask for each sample and feature, shared over time.

    fastai's `RNNDropout` is this with `batch_first=True`, torchnlp's `LockedDropout` with False. The mask
    does not depend on `batch_first`: a transposed input gets the transposed output of the same key. A packed
    sequence gets the mask that the padded one has, whatever the order it was packed in.

    Args:
        input: (B, T, F) or (T, B, F), where F may be several dimensions; (T, F) for one sequence; or a
            PackedSequence of (B, T, F).
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False evaluates to input itself.
        batch_first: True for (B, T, F), False for (T, B, F). Required, as libraries differ in it; without
            meaning for (T, F) and packed sequences.
        key: of the mask, which is one of shape (B, F).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`; of a packed sequence those of the
            padded one, (T, B, F).

    Returns:
        What input is, of its shape, dtype and layout; what is kept times 1/(1−p), what is dropped +0.0.

    Raises:
        TypeError: `batch_first must be True or False, got …`; else as `dropout`.
        ValueError: `locked_dropout takes …, got shape …`; else as `dropout`.

    Source:
        Gal, Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        NeurIPS 2016; Merity et al., "Regularizing and Optimizing LSTM Language Models", ICLR 2018.

    Example:
        >>> import torch, thinned
        >>> locked_dropout(torch.ones(1, 3, 5), training=True, batch_first=True, key=thinned.Key(0))
        tensor([[[2., 0., 2., 2., 2.],
                 [2., 0., 2., 2., 2.],
                 [2., 0., 2., 2., 2.]]])
    """
    training = check_training(training)
    check_batch_first(batch_first)
    if isinstance(input, PackedSequence):
        return _packed(input, p, training, key=key, generator=generator, **place)
    noise = _noise_shape(input, batch_first)
    return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)


def check_batch_first(batch_first: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(batch_first, bool):
        raise TypeError(
            f"batch_first must be True or False, got {batch_first!r}: True for (B, T, F), False for (T, B, F)"
        )


def _noise_shape(input: Tensor, batch_first: bool) -> tuple[int | None, ...]:
    if input.dim() == 2:
        return (1, None)
    if input.dim() < 2:
        layout = "(B, T, F)" if batch_first else "(T, B, F)"
        raise ValueError(
            f"locked_dropout takes {layout}, (T, F) or a PackedSequence of these, got shape "
            f"{tuple(input.shape)}: use Dropout(noise_shape=…) with 1 for what is to share a decision"
        )
    features = (None,) * (input.dim() - 2)
    return (None, 1, *features) if batch_first else (1, None, *features)


def _packed(packed: PackedSequence, p: float | Tensor, training: bool, **source: Any) -> PackedSequence:
    """Drops the padded sequence, in the order before packing: nothing is saved for its gradient."""
    padded, lengths = pad_packed_sequence(packed)
    dropped = dropout(padded, p, training, **source, noise_shape=_noise_shape(padded, False))
    if dropped is padded:
        return packed
    if packed.sorted_indices is not None:
        dropped = dropped.index_select(1, packed.sorted_indices)
        lengths = lengths[packed.sorted_indices.cpu()]
    data = pack_padded_sequence(dropped, lengths).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
