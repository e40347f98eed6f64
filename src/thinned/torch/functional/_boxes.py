"""These functions mask boxes of a map: spans of time and frequency, and boxes of a picture."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned import _boxes
from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _native
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._rate import check_number
from thinned.torch._remat import drawn_in_training, lean


@overridable
def mask_spans(
    input: Tensor,
    width: int,
    count: int,
    dim: int,
    training: bool = REQUIRED,
    *,
    value: float = 0.0,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Mask spans along one dimension, for each sample its own: SpecAugment's time and frequency masks.

    Span k of sample n has a width that is uniform on 0 … width, and begins uniformly where it fits: by the
    numbers at (n, k, 0) and (n, k, 1).

    Args:
        input: (N, …), a spectrogram (N, …, frequency, time), say.
        width: the widest span, at most the dimension's size.
        count: spans of each sample.
        dim: along which they are, not 0.
        training: True masks, False evaluates to input itself.
        value: what is written there.
        key: of the numbers, of shape (N, count, 2). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` of these numbers.

    Returns:
        A tensor of input's shape and dtype. What is kept is not scaled.

    Raises:
        TypeError: `training is missing …`; `input must be float32, …`.
        ValueError: `width must be from 0 to …, got …`; `dim must be …`.

    Source:
        Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
        Interspeech 2019.

    Example:
        >>> import torch, thinned
        >>> mask_spans(torch.ones(1, 2, 8), 4, 1, -1, training=True, key=thinned.Key(0))[0, 0]
        tensor([1., 0., 0., 0., 0., 1., 1., 1.])
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    _boxes.check_value(value)
    _boxes.check_spans(width, count, dim, tuple(input.shape))

    def drawn(bits: Tensor) -> Tensor:
        return lean(_spans, input, bits, width, count, dim % input.dim(), value, place)

    return drawn_in_training(input, training, (key, generator), lambda: input, drawn)


def _spans(
    input: Tensor, key: Tensor, width: int, count: int, dim: int, value: float, place: Place
) -> Tensor:
    size = input.shape[dim]
    drawn = numbers(input.new_empty(()).expand(input.shape[0], count, 2), key, "word", None, place)
    inside = _boxes.spans(drawn, width, size, torch.arange(size, device=input.device)).any(1)
    shape = [1] * input.dim()
    shape[0], shape[dim] = input.shape[0], size
    return input.masked_fill(inside.reshape(shape), value)


@overridable
def cutout(
    input: Tensor,
    size: int | tuple[int, int],
    p: float = 1.0,
    training: bool = REQUIRED,
    *,
    value: float = 0.0,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Mask a box of each picture whose centre is anywhere in it, with probability p.

    Args:
        input: (N, C, H, W); all channels have one box.
        size: of the box, which may reach over the edge: a number, or height and width.
        p: probability in [0, 1] that a picture has a box.
        training: True masks, False evaluates to input itself.
        value: what is written there.
        key: of the numbers, of shape (N, 3). Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` of these numbers.

    Returns:
        A tensor of input's shape and dtype. What is kept is not scaled.

    Raises:
        TypeError: `training is missing …`; `input must be float32, …`.
        ValueError: `cutout takes (N, C, H, W), got shape …`; `size must be positive, got …`.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017;
        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.

    Example:
        >>> import torch, thinned
        >>> cutout(torch.ones(1, 1, 4, 4), 2, training=True, key=thinned.Key(0)).sum()
        tensor(12.)
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    check_number(p, input)
    if input.dim() != 4:
        raise ValueError(f"cutout takes (N, C, H, W), got shape {tuple(input.shape)}")
    _boxes.check_value(value)
    sides, _ = _boxes.check_box(size, "NCHW", tuple(input.shape))

    def drawn(bits: Tensor) -> Tensor:
        return lean(_box, input, bits, sides, p, value, place)

    return drawn_in_training(input, training, (key, generator), lambda: input, drawn)


def _box(input: Tensor, key: Tensor, sides: Any, p: Any, value: float, place: Place) -> Tensor:
    drawn = numbers(input.new_empty(()).expand(input.shape[0], 3), key, "word", None, place)
    sizes = (input.shape[2], input.shape[3])
    rows, columns = (torch.arange(size, device=input.device) for size in sizes)
    dropped = drawn[:, 2] < drop_threshold(p, input.device)
    inside = _boxes.box(drawn, sides, (rows, columns), sizes) & dropped[:, None, None]
    return input.masked_fill(inside[:, None], value)
