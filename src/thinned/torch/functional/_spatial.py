"""Dropout along axes that have names."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED
from thinned._position import noise_of_names
from thinned.contract import Key
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._dropout import dropout


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
