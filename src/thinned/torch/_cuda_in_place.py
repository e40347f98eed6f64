"""Dropout in place on a device with a kernel: one pass, where the operator would need a copy besides."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thinned._position import positions
from thinned.torch import _cuda, _in_place, _operator
from thinned.torch._batching import Sizes, noise_of


def applies(input: Tensor, p: Tensor) -> bool:
    """Whether a device's kernel writes in place, and nothing watches that would have to see an operator."""
    return _cuda.writes(input)


def dropout(input: Tensor, key: Tensor, p: Tensor, inverted: bool, noise: Sizes, *place: Any) -> Tensor:
    """Drop in place on such a device, with a gradient if one is wanted; the rest as the operator has it."""
    from thinned.torch._triton import _launch

    def again(grad: Tensor, key: Tensor, p: Tensor) -> Tensor:
        return _operator.dropout(grad, key, p, inverted, noise, *place)

    base, strides = positions(tuple(input.shape), noise_of(noise), *place)
    target = _in_place.announce(input, again, key, p)
    return _launch.dropout(target, target, key, p, inverted, base, strides)
