"""These functions drop, add a residual, and may normalise the sum, in one pass."""

from __future__ import annotations

import math
from typing import Any, Unpack, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from thinned._arguments import DROP_ALL, REQUIRED, UNUSED, check_training, effect
from thinned._position import Shape, as_shape
from thinned.contract import Key
from thinned.torch import _cuda, _eager, _key, _native, _rate, _residual
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place, Source, consecutive
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


@overridable
def dropout_add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> tuple[Tensor, Tensor]:
    """`dropout_add` and `torch.nn.functional.layer_norm` of the sum; on CUDA in one pass over memory.

    The sum is that of the two calls, to the bit; the norm agrees to rounding. The pass is one for contiguous
    CUDA tensors of one shape, with weight and bias in the sum's dtype; all others take the calls.

    Args:
        input: what is dropped; float32, float64, float16 or bfloat16.
        residual: what is added, of a shape that broadcasts with input's.
        normalized_shape: the last dimensions' sizes, over which each norm goes.
        weight: what the normed sum is multiplied by, of the normalised shape.
        bias: what is then added, of the same shape.
        eps: added to the variance, at least 0.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False does not.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        The normed sum, and the sum: the next residual. The gradients use the mask, recomputed; nothing is
        saved for them but the sum and two numbers a row.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        CONTRACT.md, section 4; Ba, Kiros, Hinton, "Layer Normalization", arXiv 1607.06450, 2016.

    Example:
        >>> import torch, thinned
        >>> x, r = torch.ones(4), torch.arange(4.0)
        >>> normed, total = dropout_add_layer_norm(x, r, 4, p=0.5, training=True, key=thinned.Key(0))
        >>> total
        tensor([2., 1., 4., 5.])
        >>> normed
        tensor([-0.6325, -1.2649,  0.6325,  1.2649])
    """
    what = (input, residual, as_shape("normalized_shape", normalized_shape), weight, bias, eps, p, training)
    return _fused(*what, key, generator, False, place)


@overridable
def dropout_add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    eps: float | None = None,
    p: float | Tensor = 0.5,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> tuple[Tensor, Tensor]:
    """`dropout_add` and `torch.nn.functional.rms_norm` of the sum; see `dropout_add_layer_norm`.

    Args:
        input: what is dropped; float32, float64, float16 or bfloat16.
        residual: what is added, of a shape that broadcasts with input's.
        normalized_shape: the last dimensions' sizes, over which each norm goes.
        weight: what the normed sum is multiplied by, of the normalised shape.
        eps: added to the mean square, at least 0; the machine epsilon of input's dtype if not given.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False does not.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        The normed sum, and the sum.

    Raises:
        TypeError: as `dropout`.
        ValueError: as `dropout`.

    Source:
        CONTRACT.md, section 4; Zhang, Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.

    Example:
        >>> import torch, thinned
        >>> x, r = torch.ones(2), torch.tensor([-1.0, 7.0])
        >>> dropout_add_rms_norm(x, r, 2, p=0.5, training=True, key=thinned.Key(0))
        (tensor([0.2000, 1.4000]), tensor([1., 7.]))
    """
    shape = as_shape("normalized_shape", normalized_shape)
    if isinstance(input, Tensor) and eps is None:
        eps = torch.finfo(input.dtype).eps if input.is_floating_point() else 0.0
    return _fused(input, residual, shape, weight, None, eps, p, training, key, generator, True, place)


def _fused(
    input: Tensor,
    residual: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: Any,
    p: Any,
    training: bool,
    key: Any,
    generator: torch.Generator | None,
    rms: bool,
    place: Place,
) -> tuple[Tensor, Tensor]:
    training = check_training(training)
    drop = _rate.threshold(p, input) if isinstance(input, Tensor) else None
    one = drop != DROP_ALL and _rate.is_one(p) and _applies(input, residual, shape, weight, bias)
    base = consecutive(place, input.shape) if one else None
    if base is not None:
        _native.check_dtype(input)
        source = _key.check_source(key, generator)
        bits = _key.as_tensor(source if training and drop != 0 else UNUSED, generator)
        rate = _rate.as_tensor(p, drop if training else 0)
        small = (None if t is None else t.reshape(-1).contiguous() for t in (weight, bias))
        return _residual.dropout_add_norm(
            input, residual, *small, bits, rate, eps, rms, math.prod(shape), base
        )
    total = dropout_add(input, residual, p, training, key=key, generator=generator, **place)
    if rms:
        return F.rms_norm(total, shape, weight, eps), total
    return F.layer_norm(total, shape, weight, bias, eps), total


def _applies(input: Any, residual: Any, shape: tuple[int, ...], *parameters: Tensor | None) -> bool:
    """Tells whether there is a kernel for these, and it does what the calls would."""
    if not isinstance(input, Tensor) or not _cuda.fuses(input, residual):
        return False
    dtype = torch.promote_types(input.dtype, residual.dtype)
    given = [t for t in parameters if t is not None]
    return (
        tuple(input.shape[-len(shape) :]) == shape
        and math.prod(shape) > 0
        and all(t.dtype == dtype and t.shape == shape and t.device == input.device for t in given)
        # Under autocast the norm's result would be float32.
        and (dtype == torch.float32 or not torch.is_autocast_enabled(input.device.type))
    )
