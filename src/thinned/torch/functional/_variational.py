"""Variational dropout adds normal noise whose variance is learned, to units or to weights."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _autocast, _eager, _native
from thinned.torch._numbers import numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._rate import check_rate
from thinned.torch._remat import drawn_in_training, lean
from thinned.torch.functional._dropout import Noise


@overridable
def variational_dropout(
    input: Tensor,
    p: Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise_shape: tuple[int | None, ...] | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Multiply by 1 + √α z, with α = p/(1−p) and standard normal z: `gaussian_dropout`, differentiable in p.

    Args:
        input: tensor of any shape; float32, float64, float16 or bfloat16.
        p: in [0, 1), a floating tensor that may require a gradient; the paper's α is p/(1−p). Of no
            dimension, or with one for each of input's, its size or 1.
        training: True multiplies, False evaluates to input itself.
        key: of the noise. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        noise_shape: one entry a dimension: 1 shares z along it.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype. Only input and p are held for the backward pass.

    Raises:
        TypeError: `p must be a floating tensor, got …`; `training is missing …`.
        ValueError: `p must be in [0, 1], got …`; `p must be in [0, 1), got 1 …`.

    Source:
        Kingma, Salimans and Welling, "Variational Dropout and the Local Reparameterization Trick",
        NeurIPS 2015, section 3.1.

    Example:
        >>> import torch, thinned
        >>> p = torch.tensor(0.5, requires_grad=True)
        >>> y = variational_dropout(torch.ones(3), p, training=True, key=thinned.Key(0))
        >>> [round(v, 4) for v in y.tolist()]
        [1.766, 0.0243, -0.0084]
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    check_rate(p, input)
    if not torch.compiler.is_compiling() and _eager.applies(p.detach()) and bool((p.detach() == 1).any()):
        raise ValueError("p must be in [0, 1), got 1: the noise's standard deviation √(p/(1−p)) is infinite")

    def drawn(bits: Tensor) -> Tensor:
        return lean(_noisy, input, p, bits, noise_shape, place)

    return drawn_in_training(input, training, (key, generator), lambda: input, drawn)


def _noisy(input: Tensor, p: Tensor, key: Tensor, noise: Noise | None, place: Any) -> Tensor:
    wide = torch.promote_types(input.dtype, torch.float32)
    z = numbers(input, key, "normal", noise, place).to(wide)
    rate = p.to(input.device, wide)
    inside = (rate >= 0) & (rate < 1)
    sigma = root(torch.where(inside, rate / (1.0 - rate), torch.nan))
    return (input.to(wide) * (z * sigma + 1.0)).to(input.dtype)


@overridable
def variational_linear(
    input: Tensor,
    weight: Tensor,
    variance: Tensor,
    bias: Tensor | None = None,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Equivalent to `F.linear` with normal weights of this mean and variance, drawn for each sample.

    By the local reparametrisation: not weights are drawn but the output, whose mean is x Wᵀ + b and whose
    variance is x² Vᵀ.

    Args:
        input: (…, in_features); float32, float64, float16 or bfloat16.
        weight: (out_features, in_features), the means.
        variance: of weight's shape, not negative; α of the paper is variance / weight².
        bias: (out_features,), which has no noise.
        training: True draws, False is `F.linear`.
        key: of the noise, which has the output's positions. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`, of the output.

    Returns:
        (…, out_features). For the backward pass input, weight and variance are held.

    Raises:
        TypeError: `input must be float32, …`; `training is missing …`.
        ValueError: `variance must be of weight's shape, …`.

    Source:
        Kingma et al., NeurIPS 2015, equation 6; Molchanov, Ashukha and Vetrov, "Variational Dropout
        Sparsifies Deep Neural Networks", ICML 2017, equation 17.

    Example:
        >>> import torch, thinned
        >>> x, w = torch.ones(2, 4), torch.ones(3, 4)
        >>> y = variational_linear(x, w, 0.01 * w, training=True, key=thinned.Key(0))
        >>> y.shape, bool(((y - 4).abs() < 1).all())
        (torch.Size([2, 3]), True)
    """
    training = check_training(training)
    _native.check_dtype(input)
    check_variance(weight, variance)
    return _noisy_product(input, weight, variance, bias, training, (key, generator), (), place)


def check_variance(weight: Tensor, variance: Tensor) -> None:
    """Checks that there is one variance for each weight."""
    if variance.shape != weight.shape:
        raise ValueError(
            f"variance must be of weight's shape, got {tuple(variance.shape)} and {tuple(weight.shape)}"
        )


def root(square: Tensor) -> Tensor:
    """Its square root, whose gradient at 0 is finite; NaN stays NaN."""
    return torch.where(square <= 0, 0.0, square.clamp_min(torch.finfo(square.dtype).tiny).sqrt())


# By the dimensions of a weight.
_PRODUCTS: Final[dict[int, Any]] = {
    2: torch.nn.functional.linear,
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
    if weight.dim() not in (3, 4, 5):
        raise ValueError(
            f"weight must be of a convolution, (out_channels, in_channels / groups, …) with one to three "
            f"dimensions more, got shape {tuple(weight.shape)}"
        )
    options = (stride, padding, dilation, groups)
    return _noisy_product(input, weight, variance, bias, training, (key, generator), options, place)


def _noisy_product(
    input: Tensor,
    weight: Tensor,
    variance: Tensor,
    bias: Tensor | None,
    training: bool,
    source: tuple[Any, Any],
    options: tuple[Any, ...],
    place: Any,
) -> Tensor:
    def mean() -> Tensor:
        result: Tensor = _PRODUCTS[weight.dim()](input, weight, bias, *options)
        return result

    def drawn(bits: Tensor) -> Tensor:
        return lean(_drawn_product, input, weight, variance, bias, bits, options, place)

    return drawn_in_training(input, training, source, mean, drawn)


def _drawn_product(
    input: Tensor,
    weight: Tensor,
    variance: Tensor,
    bias: Tensor | None,
    key: Tensor,
    options: tuple[Any, ...],
    place: Any,
) -> Tensor:
    product = _PRODUCTS[weight.dim()]
    mean: Tensor = product(input, weight, bias, *options)
    z = numbers(mean, key, "normal", None, place)
    wide = torch.promote_types(input.dtype, torch.float32)
    with _autocast.off(input):  # a square leaves float16's range from 256 on
        spread = product(input.to(wide).square(), variance.to(wide), None, *options)
        return (mean + root(spread) * z.to(wide)).to(mean.dtype)
