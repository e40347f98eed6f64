"""A convolution whose weights have normal noise, drawn for the output."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _autocast, _export, _key, _mesh, _native
from thinned.torch._lean import lean
from thinned.torch._numbers import numbers
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._variational import check_variance, root

_CONVOLUTIONS: Final[dict[int, Any]] = {
    3: torch.nn.functional.conv1d,
    4: torch.nn.functional.conv2d,
    5: torch.nn.functional.conv3d,
}


@overridable
def variational_conv(
    input: Tensor,
    weight: Tensor,
    variance: Tensor,
    bias: Tensor | None = None,
    training: bool = REQUIRED,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `F.conv1d` to `F.conv3d` with normal weights of this mean and variance.

    By the local reparametrisation: not weights are drawn but each element of the output, whose mean is
    x ∗ W + b and whose variance is x² ∗ V.

    Args:
        input: (N, C, …), of one to three dimensions behind the channels; float32, float64, float16 or
            bfloat16.
        weight: (out_channels, C / groups, …), the means.
        variance: of weight's shape, not negative.
        bias: (out_channels,), which has no noise.
        training: True draws, False is the convolution.
        stride: as of torch's convolution.
        padding: as of torch's convolution.
        dilation: as of torch's convolution.
        groups: as of torch's convolution.
        key: of the noise, which has the output's positions. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, of the output.

    Returns:
        As torch's convolution. For the backward pass input, weight and variance are held.

    Raises:
        TypeError: `input must be float32, …`; `training is missing …`.
        ValueError: `variance must be of weight's shape, …`; `weight must be of a convolution, …`.

    Source:
        Kingma et al., NeurIPS 2015, equation 6; Molchanov, Ashukha and Vetrov, ICML 2017, section 4.2.

    Example:
        >>> import torch, thinned
        >>> x, w = torch.ones(1, 2, 5), torch.ones(3, 2, 3)
        >>> variational_conv(x, w, 0.01 * w, training=True, key=thinned.Key(0)).shape
        torch.Size([1, 3, 3])
    """
    training = check_training(training)
    _native.check_dtype(input)
    check_variance(weight, variance)
    if weight.dim() not in _CONVOLUTIONS:
        raise ValueError(
            f"weight must be of a convolution, (out_channels, in_channels / groups, …) with one to three "
            f"dimensions more, got shape {tuple(weight.shape)}"
        )
    key = _key.check_source(key, generator)
    options = (stride, padding, dilation, groups)
    if not training:
        return _convolved(input, weight, bias, options)
    _mesh.check_source(input, key, generator)
    bits = _key.as_tensor(key, generator)
    result = lean(_drawn, input, weight, variance, bias, bits, options, place)
    return _export.turned(result, lambda: _convolved(input, weight, bias, options))


def _convolved(input: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]) -> Tensor:
    result: Tensor = _CONVOLUTIONS[weight.dim()](input, weight, bias, *options)
    return result


def _drawn(
    input: Tensor,
    weight: Tensor,
    variance: Tensor,
    bias: Tensor | None,
    key: Tensor,
    options: Any,
    place: Any,
) -> Tensor:
    mean = _convolved(input, weight, bias, options)
    z = numbers(mean, key, "normal", None, place)
    wide = torch.promote_types(input.dtype, torch.float32)
    with _autocast.off(input):  # a square leaves float16's range from 256 on
        spread = _convolved(input.to(wide).square(), variance.to(wide), None, options)
        return (mean + root(spread) * z.to(wide)).to(mean.dtype)
