"""The mask itself, for what is not a product with it."""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.contract import Key
from thinned.torch import _export, _key, _mesh
from thinned.torch._place import Place
from thinned.torch.functional._dropout import dropout

Noise = tuple[int | None, ...]


def batched_keep_mask(
    input: Tensor, p: float | Tensor, key: Key | Tensor, noise: Noise | None, place: Place
) -> Tensor:
    """True where dropout of the input keeps, of the noise's shape.

    By way of ones, since `keep_mask` has no examples of a vmap to tell apart.
    """
    sizes = tuple(input.shape)
    if noise is not None:
        sizes = tuple(size if n is None else n for n, size in zip(noise, sizes, strict=True))
    if isinstance(p, Tensor):
        sizes = torch.broadcast_shapes(sizes, p.shape)
    ones = _mesh.ones(input, sizes)
    return dropout(ones, p, True, key=key, noise_shape=noise, **place) != 0


def kept(
    input: Tensor,
    p: float | Tensor,
    key: Key | Tensor | None,
    noise: Noise | None,
    place: Place,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The input where it is kept, and 0 where dropped: classic dropout, but for what it evaluates to."""
    if _export.exporting():
        bits = _key.as_tensor(_key.check_source(key, generator), generator)
        return torch.where(batched_keep_mask(input, p, bits, noise, place), input, 0)
    return dropout(input, p, True, key=key, generator=generator, noise_shape=noise, mode="classic", **place)
