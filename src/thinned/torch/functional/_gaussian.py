"""Gaussian dropout multiplies by normal noise of mean 1."""

from __future__ import annotations

from typing import Unpack, overload

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned._position import Shape, as_shape, positions
from thinned.contract import Key, check_probability
from thinned.torch import _eager, _gaussian, _in_place, _key, _mesh, _native, _nested, _rate
from thinned.torch._overrides import overridable
from thinned.torch._placement import Source, sizes_of
from thinned.torch.functional._dropout import _sizes
from thinned.torch.functional._signatures import Rate


@overload
def gaussian_dropout(
    input: Tensor,
    p: Rate,
    training: bool,
    inplace: bool = False,
    *,
    noise_shape: tuple[int | None, ...] | None = None,
    **source: Unpack[Source],
) -> Tensor: ...
@overload
def gaussian_dropout(
    input: Tensor,
    p: Rate = 0.5,
    *,
    training: bool,
    inplace: bool = False,
    noise_shape: tuple[int | None, ...] | None = None,
    **source: Unpack[Source],
) -> Tensor: ...
@overridable
def gaussian_dropout(
    input: Tensor,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    inplace: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise_shape: tuple[int | None, ...] | None = None,
    global_shape: Shape | None = None,
    start: Shape | None = None,
    step: Shape | None = None,
) -> Tensor:
    """Multiply by 1 + σ z, with σ = √(p/(1−p)) and a standard normal z for each element.

    Equivalent to `keras.layers.GaussianDropout`: mean and variance of the noise are those of dropout at p.
    Nothing is dropped: a NaN stays one. The gradient uses the same z, recomputed: nothing of the input's size
    is saved for it.

    Args:
        input: tensor of any shape and strides; float32, float64, float16 or bfloat16.
        p: in [0, 1), the dropout probability whose variance the noise has: a number, or a tensor as in
            `dropout`.
        training: True multiplies, False evaluates to input itself.
        inplace: write to `input` itself.
        key: the noise's key.
        generator: where a key is drawn from without one.
        noise_shape: one entry a dimension: 1 shares z along it; None or input's size does not.
        global_shape: shape of the whole tensor, where input is a shard of it.
        start: index of input's first element in the whole tensor; zeros if not given.
        step: how far apart neighbours of input are in the whole tensor; ones if not given.

    Returns:
        A tensor of input's shape, dtype and layout; input itself at p = 0 and in evaluation. z is rounded to
        float32, the rest computed in float32 (float64 for float64) and rounded once.

    Raises:
        TypeError: as `dropout`.
        ValueError: `GaussianDropout needs p < 1, got …`; else as `dropout`.

    Source:
        CONTRACT.md, section 6; Srivastava et al., "Dropout", JMLR 2014, section 10.

    Example:
        >>> import torch, thinned
        >>> gaussian_dropout(torch.ones(3), 0.5, training=True, key=thinned.Key(0))
        tensor([ 1.7660,  0.0243, -0.0084])
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    drop = _rate.threshold(p, input)
    if not isinstance(p, Tensor):
        p = check_probability(p)
    if not isinstance(p, Tensor) or _eager.applies(p):
        _gaussian.check_finite(p)
    key = _key.check_source(key, generator)
    if _nested.is_unusual(input):
        return input
    positions(sizes_of(input), noise_shape, global_shape, start, step)
    if not training or (drop == 0 and p == 0):
        return input
    if inplace:
        _in_place.check(input)
    _mesh.check_source(input, key, generator)
    place = {"global_shape": global_shape, "start": start, "step": step}
    result = _gaussian.gaussian_dropout(
        input,
        _key.as_tensor(key, generator),
        _rate.as_tensor(p, None),
        None if noise_shape is None else _sizes(noise_shape),
        *(None if entries is None else as_shape(name, entries) for name, entries in place.items()),
    )
    return _in_place.into(input, result, inplace)
