"""ShakeDrop and Shake-Shake scale branches at random, and their gradients by other numbers."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _key, _native, _rate
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._remat import drawn_in_training
from thinned.torch.functional._depth import rows_noise

# Folded into the call's key: the numbers of the forward pass, and those of the backward pass.
_FORWARD, _BACKWARD = 0, 1


@overridable
def shake_drop(
    input: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    alpha: tuple[float, float] = (-1.0, 1.0),
    beta: tuple[float, float] = (0.0, 1.0),
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Scale a residual branch by a random number where it would be dropped, in the backward pass by another.

    A sample is kept, times 1, with probability 1 − p; else it is multiplied by α, and its gradient by β.

    Args:
        input: (N, …), a residual branch; float32, float64, float16 or bfloat16.
        p: probability in [0, 1], a number or a tensor of no dimension.
        training: True shakes, False multiplies by the expectation 1 − p + p E[α].
        alpha: between which numbers α is uniform.
        beta: between which numbers β is uniform.
        key: of the decisions, drop_path's; α's is folded by 0 and β's by 1.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`; `shake_drop takes (N, …), got shape ()`.

    Source:
        Yamada, Iwamura, Akiba and Kise, "ShakeDrop Regularization for Deep Residual Learning", IEEE Access
        2019, equation 6.

    Example:
        >>> import torch, thinned
        >>> y = shake_drop(torch.ones(5, 2), 0.5, training=True, key=thinned.Key(0))[:, 0]
        >>> (y == 1).tolist()
        [True, False, True, True, True]
    """
    training = check_training(training)
    _native.check_dtype(input)
    _rate.threshold(p, input)
    noise = rows_noise(input, "shake_drop")

    def drawn(bits: Tensor) -> Tensor:
        kept = numbers(input, bits, "word", noise, place) >= drop_threshold(p, input.device)
        forward, backward = (
            torch.where(kept, 1.0, _between(input, _key.fold(bits, part), noise, place, ends))
            for part, ends in ((_FORWARD, alpha), (_BACKWARD, beta))
        )
        return _shaken(input, forward, backward)

    return drawn_in_training(input, training, (key, generator), lambda: _expected(input, p, alpha), drawn)


@overridable
def shake_shake(
    input: Tensor,
    other: Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Mix two branches, α of the one and 1 − α of the other, in the backward pass by another β.

    Args:
        input: (N, …), a residual branch; float32, float64, float16 or bfloat16.
        other: of its shape and dtype.
        training: True mixes at random, False in halves.
        key: α's is folded by 0 and β's by 1. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype; each sample has numbers of its own.

    Raises:
        TypeError: as `dropout`.
        ValueError: `input and other must be of one shape and dtype, got …`.

    Source:
        Gastaldi, "Shake-Shake regularization", 2017.

    Example:
        >>> import torch, thinned
        >>> y = shake_shake(torch.ones(3, 2), torch.ones(3, 2), training=True, key=thinned.Key(0))
        >>> torch.allclose(y, torch.ones(3, 2))
        True
    """
    training = check_training(training)
    _native.check_dtype(input)
    if input.shape != other.shape or input.dtype != other.dtype:
        raise ValueError(
            f"input and other must be of one shape and dtype, got {tuple(input.shape)} of {input.dtype} and "
            f"{tuple(other.shape)} of {other.dtype}"
        )
    noise = rows_noise(input, "shake_shake")

    def drawn(bits: Tensor) -> Tensor:
        forward, backward = (
            _between(input, _key.fold(bits, part), noise, place, (0.0, 1.0)) for part in (_FORWARD, _BACKWARD)
        )
        return _shaken(input, forward, backward) + _shaken(other, 1.0 - forward, 1.0 - backward)

    return drawn_in_training(input, training, (key, generator), lambda: (input + other) / 2, drawn)


def _between(
    input: Tensor, key: Tensor, noise: tuple[int | None, ...], place: Place, ends: tuple[float, float]
) -> Tensor:
    low, high = ends
    wide = torch.promote_types(input.dtype, torch.float32)
    return (low + (high - low) * numbers(input, key, "uniform", noise, place)).to(wide)


def _shaken(input: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    result: Tensor = _Shake.apply(input, forward, backward)  # type: ignore[no-untyped-call]
    return result


class _Shake(torch.autograd.Function):
    """input · forward, whose gradient is multiplied by backward; one number a sample is held."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        return (input * forward).to(input.dtype)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * factor).to(grad.dtype), None, None


def _expected(input: Tensor, p: float | Tensor, alpha: tuple[float, float]) -> Tensor:
    mean = sum(alpha) / 2
    factor = 1.0 - p + p * mean
    return (input * factor).to(input.dtype)
