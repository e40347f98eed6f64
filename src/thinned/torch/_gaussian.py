"""The operator `thinned::gaussian_dropout` computes input · (1 + σ z), with normal z that a key gives.

It is diagonal and linear in the input, as dropout is: the backward pass recomputes z and saves nothing of the
input's size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned._position import positions, row_major
from thinned.torch import _cuda, _mesh, _native, _plain, _rate
from thinned.torch._autograd import self_adjoint
from thinned.torch._batching import Sizes, batched, noise_of, words_for
from thinned.torch._key_tensor import words_of

_library = torch.library.Library("thinned", "FRAGMENT")

_library.define(
    "gaussian_dropout(Tensor input, Tensor key, Tensor p, SymInt[]? noise_shape=None, "
    "SymInt[]? global_shape=None, SymInt[]? start=None, SymInt[]? step=None, "
    "int[]? coordinate=None) -> Tensor"
)


def gaussian_dropout(input: Tensor, key: Tensor, p: Tensor, *rest: Any) -> Tensor:
    """Call `thinned::gaussian_dropout`."""
    result: Tensor = torch.ops.thinned.gaussian_dropout(input, key, p, *rest, **_mesh.prepare(input))
    return result


def check_finite(p: Any) -> Any:
    """P, below 1 in every entry."""
    if bool((p >= 1).any()) if isinstance(p, Tensor) else p >= 1:
        got = p.tolist() if isinstance(p, Tensor) else p
        raise ValueError(
            f"GaussianDropout needs p < 1, got {got}: the standard deviation of its noise is √(p/(1−p)), "
            "infinite at p = 1; Dropout takes p = 1"
        )
    return p


def _gaussian_dropout(
    input: Tensor,
    key: Tensor,
    p: Tensor,
    noise_shape: Sizes = None,
    global_shape: Sizes = None,
    start: Sizes = None,
    step: Sizes = None,
    coordinate: Sizes = None,
) -> Tensor:
    if p.is_cpu:
        _rate.check_range(p)
        check_finite(p)
    shape = tuple(input.shape[key.dim() - 1 :])
    base, strides = positions(shape, noise_of(noise_shape), global_shape, start, step)
    if _cuda.serves(input):
        from thinned.torch._triton import _launch

        return _launch.dropout(input, torch.empty_like(input), key, p, True, base, strides, "noise")
    z = _normal(input, key, base, row_major(shape) if strides is None else strides)
    wide = torch.promote_types(input.dtype, torch.float32)
    rate = _plain.double(p)
    sigma = torch.sqrt(rate / (1.0 - rate)).to(wide).to(input.device)
    value = input.to(wide) * (z.to(wide) * sigma + 1.0)
    return torch.empty_like(input).copy_(value)


def _normal(input: Tensor, key: Tensor, base: int, strides: tuple[int, ...]) -> Tensor:
    """Z in float32, of a shape that broadcasts to the input's."""
    if input.is_cpu and key.dim() == 1:
        return _native.normal(tuple(input.shape), words_of(key), base, strides)
    return _plain.normal(tuple(input.shape), words_for(input, key), base, strides, input.device)


def _gaussian_dropout_vmap(
    info: Any, in_dims: Any, input: Tensor, key: Tensor, p: Tensor, *shapes: Sizes
) -> tuple[Tensor, int]:
    return gaussian_dropout(*batched(info.batch_size, in_dims, input, key, p, *shapes)), 0


self_adjoint(_library, "gaussian_dropout", _gaussian_dropout, _gaussian_dropout_vmap)
