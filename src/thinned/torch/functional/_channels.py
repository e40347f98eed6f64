"""These functions drop whole channels, or decisions along named axes."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED
from thinned._position import noise_of_names
from thinned.contract import Key
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch.functional._dropout import dropout
from thinned.torch.functional._signatures import in_place_verb

# By the dimensions of a channel, what each number of dimensions of the input stands for. Three are none of
# dropout2d's: torch takes them for (N, C, L) and warns that they will be (C, H, W).
_ACCEPTED = {
    1: {2: "(C, L)", 3: "(N, C, L)"},
    2: {4: "(N, C, H, W)"},
    3: {4: "(C, D, H, W)", 5: "(N, C, D, H, W)"},
}


@in_place_verb
@overridable
def dropout1d(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.dropout1d`: a channel of one dimension is dropped as a whole.

    Args:
        input: (N, C, L) or (C, L); float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False evaluates to input itself.
        inplace: write to `input` itself.
        key: of the mask, which is one of shape (N, C, 1) or (C, 1).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout; kept channels times 1/(1−p), dropped ones +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `dropout1d takes (C, L) or (N, C, L), got shape …`; else as `dropout`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import torch, thinned
        >>> dropout1d(torch.ones(3, 4), 0.5, training=True, key=thinned.Key(0))
        tensor([[2., 2., 2., 2.],
                [0., 0., 0., 0.],
                [2., 2., 2., 2.]])
    """
    noise = _noise_shape(input, 1)
    return dropout(input, p, training, inplace, key=key, generator=generator, noise_shape=noise, **place)


@in_place_verb
@overridable
def dropout2d(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.dropout2d`, but that three dimensions are an error.

    torch takes them for (N, C, L) and warns that they will be (C, H, W): `dropout1d` is for the first, a
    batch of one, `input.unsqueeze(0)`, for the second.

    Args:
        input: (N, C, H, W).
        p: as in `dropout1d`, like all that follow.
        training: True drops, False evaluates.
        inplace: write to `input` itself.
        key: of the mask, which is one of shape (N, C, 1, 1).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout.

    Raises:
        TypeError: as `dropout`.
        ValueError: `dropout2d takes (N, C, H, W), got shape …`; else as `dropout`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import torch, thinned
        >>> dropout2d(torch.ones(1, 8, 3, 3), 0.5, training=True, key=thinned.Key(0)).amax((2, 3))
        tensor([[2., 0., 2., 2., 2., 2., 2., 2.]])
    """
    noise = _noise_shape(input, 2)
    return dropout(input, p, training, inplace, key=key, generator=generator, noise_shape=noise, **place)


@in_place_verb
@overridable
def dropout3d(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `torch.nn.functional.dropout3d`: a channel of three dimensions is dropped as a whole.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W).
        p: as in `dropout1d`, like all that follow.
        training: True drops, False evaluates.
        inplace: write to `input` itself.
        key: of the mask, which is one of shape (N, C, 1, 1, 1) or (C, 1, 1, 1).
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout.

    Raises:
        TypeError: as `dropout`.
        ValueError: `dropout3d takes (C, D, H, W) or (N, C, D, H, W), got shape …`; else as `dropout`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import torch, thinned
        >>> dropout3d(torch.ones(8, 3, 3, 3), 0.5, training=True, key=thinned.Key(0)).amax((1, 2, 3))
        tensor([2., 0., 2., 2., 2., 2., 2., 2.])
    """
    noise = _noise_shape(input, 3)
    return dropout(input, p, training, inplace, key=key, generator=generator, noise_shape=noise, **place)


def _noise_shape(input: Tensor, axes: int) -> tuple[int | None, ...]:
    """Returns the noise shape of one decision a channel, of so many dimensions."""
    if input.dim() not in _ACCEPTED[axes]:
        raise ValueError(
            f"dropout{axes}d takes {' or '.join(_ACCEPTED[axes].values())}, got shape {tuple(input.shape)}: "
            f"use {_fitting(input.dim())}"
        )
    return (None,) * (input.dim() - axes) + (1,) * axes


def _fitting(rank: int) -> str:
    """The layers that take so many dimensions."""
    layers = [f"Dropout{axes}d {shapes[rank]}" for axes, shapes in _ACCEPTED.items() if rank in shapes]
    if rank == 3:
        layers.append("Dropout2d of input.unsqueeze(0) (C, H, W)")
    return " or ".join(["Dropout (elements)", *layers])


@overridable
def spatial_dropout(
    input: Tensor,
    p: float | Tensor,
    layout: str,
    independent: str,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Dropout with one decision for each index of the axes that are named, shared along all others.

    Tokens of (N, L, D) are `"NLD", "NL"`, channels of (N, H, W, C) `"NHWC", "NC"`, columns of a table
    `"NF", "F"`, nodes of a graph `"NF", "N"`: each is `dropout` with the noise shape that the names say.

    Args:
        input: tensor of as many dimensions as `layout` has letters.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        layout: one letter for each dimension, "NHWC".
        independent: those with decisions of their own, "NC".
        training: True drops, False evaluates.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout; kept times 1/(1−p), dropped +0.0.

    Raises:
        TypeError: as `dropout`.
        ValueError: `layout "…" has … letters and input … dimensions`; `independent "…" is not in …`.

    Source:
        Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015.

    Example:
        >>> import torch, thinned
        >>> spatial_dropout(torch.ones(1, 5, 2), 0.5, "NLD", "NL", training=True, key=thinned.Key(0))[0, :, 0]
        tensor([2., 0., 2., 2., 2.])
    """
    noise = noise_of_names(layout, independent)
    if input.dim() != len(noise):
        raise ValueError(f'layout "{layout}" has {len(noise)} letters and input {input.dim()} dimensions')
    return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)
