"""An operator `name(Tensor input, Tensor key, Tensor p, …)` takes many keys in one call here.

Dimensions of key in front of its last are the input's first ones, one key each; positions count in what
remains. p is a number, or has one entry, its size or 1, for each dimension of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

Sizes = Sequence[int] | None

# In an operator's noise shape, for what is None in ours: a list of an operator has no None, and the size of a
# shard may be 1, which says "shared".
OWN = -1


def noise_of(noise_shape: Sizes) -> tuple[int | None, ...] | None:
    """An operator's noise shape as `positions` takes it."""
    return None if noise_shape is None else tuple(None if n == OWN else n for n in noise_shape)


def words_for(input: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Seeds and streams, of a shape that broadcasts to the input's, on its device."""
    seed, stream = key.to(input.device).unbind(-1)
    each = (*seed.shape, *(1,) * (input.dim() - seed.dim()))
    return seed.reshape(each), stream.reshape(each)


def batched(
    size: int,
    in_dims: Any,
    input: Tensor,
    key: Tensor,
    p: Tensor,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
    coordinate: Sizes = None,
) -> tuple[Tensor, Tensor, Tensor, Sizes, Sizes, Sizes, Sizes]:
    """The arguments of the call that serves a whole vmap: its dimension is the input's first."""
    at_input, at_key, at_p, *_ = in_dims
    input = input.movedim(at_input, 0) if at_input is not None else input.expand(size, *input.shape)
    if at_p is not None:
        p = p.movedim(at_p, 0)
        p = p.reshape(size, *(p.shape[1:] if p.dim() > 1 else (1,) * (input.dim() - 1)))
    elif p.dim():
        p = p.unsqueeze(0)
    if at_key is not None:
        key = key.movedim(at_key, 0)
    elif key.dim() > 1:
        key = key.expand(size, *key.shape)
    else:
        noise_shape = (1, *([OWN] * (input.dim() - 1) if noise_shape is None else noise_shape))
        global_shape = None if global_shape is None else (size, *global_shape)
        start = None if start is None else (0, *start)
        step = None if step is None else (1, *step)
    return input, key, p, noise_shape, global_shape, start, step
