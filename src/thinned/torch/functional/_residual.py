"""Dropout and the residual that is added to it, in one pass."""

from __future__ import annotations

from typing import Unpack, overload

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, REQUIRED, check_training, effect
from thinned.contract import Key
from thinned.torch import _cuda, _eager, _key, _native, _rate, _residual
from thinned.torch._overrides import overridable
from thinned.torch._place import Place, Source, consecutive
from thinned.torch.functional._dropout import dropout
from thinned.torch.functional._signatures import Rate


@overload
def dropout_add(
    input: Tensor, residual: Tensor, p: Rate, training: bool, **source: Unpack[Source]
) -> Tensor: ...
@overload
def dropout_add(
    input: Tensor, residual: Tensor, p: Rate = 0.5, *, training: bool, **source: Unpack[Source]
) -> Tensor: ...
@overridable
def dropout_add(
    input: Tensor,
    residual: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `dropout(input, p, training) + residual`, to the bit, in one pass over memory.

    That is for contiguous tensors of one shape: on CPU of one dtype and in eager code, on CUDA in compiled
    code too. All others take the two calls, which a compiler fuses with what follows.

    Args:
        input: what is dropped; float32, float64, float16 or bfloat16.
        residual: what is added, of a shape that broadcasts with input's.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False adds.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A new tensor. The residual's gradient is the upstream one; input's is dropped by the mask, recomputed.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        CONTRACT.md, section 4.

    Example:
        >>> import torch, thinned
        >>> dropout_add(torch.ones(5), torch.arange(5.0), 0.5, training=True, key=thinned.Key(0))
        tensor([2., 1., 4., 5., 6.])
    """
    training = check_training(training)
    drop = _rate.threshold(p, input) if isinstance(input, Tensor) else None
    on = isinstance(input, Tensor) and training and drop not in (0, DROP_ALL)
    base = consecutive(place, input.shape) if on else None
    if base is not None:
        if drop is not None and _eager.adds(input, residual):
            _native.check_dtype(input)
            words = _key.as_words(_key.check_source(key, generator), generator)
            return _eager.dropout_add(input, residual, (*words, *effect(drop, True, True), base, None))
        if _cuda.fuses(input, residual) and _rate.is_one(p):
            _native.check_dtype(input)
            bits = _key.as_tensor(_key.check_source(key, generator), generator)
            return _residual.dropout_add(input, residual, bits, _rate.as_tensor(p, drop), base)
    return dropout(input, p, training, key=key, generator=generator, **place) + residual
