"""DropBlock drops contiguous blocks of a channel's map together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, check_training, requires_training
from thinned.contract import Key, check_integer, threshold
from thinned.torch import _block, _gaussian, _in_place, _key, _mesh, _native, _nested, _rate
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, as_lists
from thinned.torch.functional._dropout import dropout

_LAYOUTS = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


@overridable
@requires_training
def drop_block1d(
    input: Tensor,
    p: float | Tensor,
    block_size: int | Sequence[int],
    training: bool,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    scale_by_keep: bool = True,
    couple_channels: bool = False,
    with_noise: bool = False,
    **place: Unpack[Place],
) -> Tensor:
    """Drop runs of each channel of (N, C, L): `drop_block2d` of one dimension.

    Example:
        >>> import torch, thinned
        >>> drop_block1d(torch.ones(1, 1, 10), 0.4, 3, training=True, key=thinned.Key(2))
        tensor([[[0.0000, 0.0000, 0.0000, 1.4286, 1.4286, 1.4286, 1.4286, 1.4286,
                  1.4286, 1.4286]]])
    """
    options = (scale_by_keep, couple_channels, with_noise)
    return _drop(input, p, block_size, training, inplace, key, generator, 1, options, place)


@overridable
@requires_training
def drop_block2d(
    input: Tensor,
    p: float | Tensor,
    block_size: int | Sequence[int],
    training: bool,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    scale_by_keep: bool = True,
    couple_channels: bool = False,
    with_noise: bool = False,
    **place: Unpack[Place],
) -> Tensor:
    """Drop blocks of each channel's map, so that an element is dropped with probability p on average.

    A seed may fire at each place where a whole block has room, for each sample and channel by itself; every
    element of a fired seed's block is dropped. The seeds' probability is the one at which, with overlaps and
    borders counted, the expected share of dropped elements is p in every sample: other implementations use
    an approximation. Elements near a border have fewer blocks over them and are dropped less often than
    those in the middle. The kept elements of a sample are multiplied by its size over their number, so that
    no sample depends on the others. The gradient grows the same blocks again: nothing of the input's size
    is saved for it.

    Args:
        input: (N, C, H, W) of any strides; float32, float64, float16 or bfloat16.
        p: share to drop in [0, 1]; or a floating tensor of no dimension, or of four, with input's size or 1
            for samples and channels and 1 for the map.
        block_size: sides of a block, a positive integer or one for each dimension of the map; a side longer
            than the map's is the map's. Odd and even sides alike: a seed is its block's first element.
        training: True drops, False evaluates. Required: a function cannot see `model.eval()`.
        inplace: write the result to `input` itself; it is computed beside it.
        key: the mask's key, or an int64 tensor of its seed and stream. The seeds are the mask of shape
            (N, C, H − block + 1, W − block + 1).
        generator: where a key is drawn from without one; torch's default CPU generator if not given.
        scale_by_keep: multiply what a sample keeps by its size over the number kept.
        couple_channels: one mask for all channels of a sample: the seeds' mask has one channel.
        with_noise: normal noise in place of what is dropped, and nothing is scaled, as in timm.

    Returns:
        `input` itself in place or where nothing changes (p = 0, evaluation), else a new tensor of its shape,
        dtype and layout. What is dropped is +0.0 exactly, and so is its gradient.

    Raises:
        TypeError: `training is missing: …`; `input must be float32, …, got …`; `block_size must be an
            integer, got …`.
        ValueError: `p must be in [0, 1], got …`; `input must be (N, C, H, W), got shape …`; `block_size must
            be positive, got …`; `p of shape … does not fit …`.

    Source:
        Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018;
        CONTRACT.md, section 3.

    Example:
        >>> import torch, thinned
        >>> drop_block2d(torch.ones(1, 1, 4, 6), 0.4, 2, training=True, key=thinned.Key(3))
        tensor([[[[1.5000, 1.5000, 1.5000, 0.0000, 0.0000, 1.5000],
                  [1.5000, 0.0000, 0.0000, 0.0000, 0.0000, 1.5000],
                  [1.5000, 0.0000, 0.0000, 1.5000, 1.5000, 1.5000],
                  [1.5000, 1.5000, 1.5000, 1.5000, 1.5000, 1.5000]]]])
    """
    options = (scale_by_keep, couple_channels, with_noise)
    return _drop(input, p, block_size, training, inplace, key, generator, 2, options, place)


@overridable
@requires_training
def drop_block3d(
    input: Tensor,
    p: float | Tensor,
    block_size: int | Sequence[int],
    training: bool,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    scale_by_keep: bool = True,
    couple_channels: bool = False,
    with_noise: bool = False,
    **place: Unpack[Place],
) -> Tensor:
    """Drop boxes of each channel of (N, C, D, H, W): `drop_block2d` of three dimensions.

    Example:
        >>> import torch, thinned
        >>> y = drop_block3d(torch.ones(1, 1, 2, 2, 4), 0.4, (1, 2, 2), training=True, key=thinned.Key(3))
        >>> (y[0, 0] == 0).int().tolist()
        [[[0, 0, 1, 1], [0, 0, 1, 1]], [[1, 1, 0, 0], [1, 1, 0, 0]]]
    """
    options = (scale_by_keep, couple_channels, with_noise)
    return _drop(input, p, block_size, training, inplace, key, generator, 3, options, place)


def _drop(
    input: Tensor,
    p: float | Tensor,
    block_size: int | Sequence[int],
    training: bool,
    inplace: bool,
    key: Key | Tensor | None,
    generator: torch.Generator | None,
    rank: int,
    options: tuple[bool, bool, bool],
    place: Place,
) -> Tensor:
    training = check_training(training)
    _native.check_dtype(input, training)
    _check_rank(input, rank)
    block = check_block_size(block_size, rank)
    drop = _rate.threshold(p, input)
    if isinstance(p, Tensor) and any(size != 1 for size in p.shape[2:]):
        raise ValueError(
            f"p of shape {tuple(p.shape)} does not fit input of shape {tuple(input.shape)}: give one number "
            "for a map, or for each sample and channel (one p per sample is p.reshape(N, 1, …))"
        )
    scaled, coupled, noisy = options
    if coupled and isinstance(p, Tensor) and p.dim() and p.shape[1] != 1:
        raise ValueError(
            f"p of shape {tuple(p.shape)} has a rate for each channel, and couple_channels=True one mask "
            "for all of a sample: give p of shape (N, 1, …)"
        )
    key = _key.check_source(key, generator)
    if _nested.is_unusual(input):
        return input
    start, step = _rows(place, input)
    if not training or drop == 0:
        return input
    if drop == DROP_ALL and not noisy:
        return dropout(input, 1.0, True, inplace)
    if inplace:
        _in_place.check(input)
    _mesh.check_source(input, key, generator)
    bits = _key.as_tensor(key, generator)
    arguments = (bits, _rate.as_tensor(p, drop), block, start, step, scaled and not noisy, coupled)
    result = _block.drop_block(input, *arguments)
    if noisy:
        result = result + _noise(input, arguments, place)
    return _in_place.into(input, result, inplace)


def _noise(input: Tensor, arguments: tuple[Any, ...], place: Place) -> Tensor:
    """Normal deviates where the input is dropped, of the same key; 0 elsewhere."""
    ones = torch.ones_like(input, requires_grad=False)
    kept = _block.drop_block(ones, *arguments)
    shared = [1 if axis == 1 else size for axis, size in enumerate(input.shape)] if arguments[-1] else None
    half = _rate.as_tensor(0.5, threshold(0.5))  # a deviation of 1
    noise = _gaussian.gaussian_dropout(
        ones.float(), arguments[0], half, shared, *as_lists(place, input.shape)
    )
    return ((noise - 1.0) * (1.0 - kept.float())).to(input.dtype)


def _rows(place: Place, input: Tensor) -> tuple[int, int]:
    """The place of the input's samples in the whole batch: the first one, and how far apart they are."""
    whole, start, step = as_lists(place, input.shape)
    if whole is None:
        return 0, 1
    first, apart = start or [0] * input.dim(), step or [1] * input.dim()
    if list(whole[1:]) != list(input.shape[1:]):
        raise ValueError(
            f"DropBlock scales each sample by what it has lost and needs samples whole: global_shape "
            f"{tuple(whole)} may differ from input's shape {tuple(input.shape)} in its first entry only"
        )
    return first[0], apart[0]


def check_block_size(block_size: Any, rank: int) -> list[int]:
    """Returns one positive side for each dimension of a map."""
    sides = block_size if isinstance(block_size, (tuple, list)) else (block_size,) * rank
    if len(sides) != rank:
        raise ValueError(f"block_size must be an integer or {rank} of them, got {block_size}")
    checked = [check_integer("block_size", side) for side in sides]
    if any(side < 1 for side in checked):
        raise ValueError(f"block_size must be positive, got {block_size}")
    return checked


def _check_rank(input: Tensor, rank: int) -> None:
    if input.dim() == rank + 2:
        return
    fits = input.dim() - 2
    if fits in _LAYOUTS:
        remedy = f"DropBlock{fits}d takes {_LAYOUTS[fits]}"
        if fits == rank - 1:
            remedy += "; pass input.unsqueeze(0) for one sample"
    else:
        remedy = f"DropBlock takes maps of one to three dimensions, {', '.join(_LAYOUTS.values())}"
    raise ValueError(f"input must be {_LAYOUTS[rank]}, got shape {tuple(input.shape)}: {remedy}")
