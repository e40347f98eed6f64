"""These functions pass a gradient to p: concrete dropout by a relaxed mask, standout by its mean."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned import _concrete
from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _compat, _native
from thinned.torch._numbers import numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._rate import check_rate
from thinned.torch._remat import drawn_in_training, lean
from thinned.torch.functional._dropout import Noise, dropout


@overridable
def concrete_dropout(
    input: Tensor,
    p: Tensor,
    training: bool = REQUIRED,
    *,
    temperature: float = 0.1,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    noise_shape: tuple[int | None, ...] | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Multiply by a relaxed mask over 1 − p: a sigmoid in place of dropout's step, differentiable in p.

    With u the mask's own uniform numbers, what is kept of an element is
    σ(−(logit p − logit u) / temperature): as the temperature falls it becomes dropout's mask at p. Nothing is
    dropped exactly, but where σ rounds to 0. The backward pass computes the mask again: only input and p are
    held for it.

    Args:
        input: tensor of any shape; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a floating tensor that may require a gradient: of no dimension, or with
            one for each of input's, its size or 1.
        training: True multiplies, False evaluates to input itself.
        temperature: positive; the paper's is 0.1.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        noise_shape: one entry a dimension: 1 shares the number along it.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype. At p = 0 all is kept as it is, at p = 1 all is +0.0; there p gets
        no gradient.

    Raises:
        TypeError: `p must be a floating tensor, got …`; `training is missing …`.
        ValueError: `p must be in [0, 1], got …`; `temperature must be positive, got …`.

    Source:
        Gal, Hron and Kendall, "Concrete Dropout", NeurIPS 2017, equation 5.

    Example:
        >>> import torch, thinned
        >>> p = torch.tensor(0.5, requires_grad=True)
        >>> y = concrete_dropout(torch.ones(5), p, training=True, key=thinned.Key(0))
        >>> (y > 1).tolist()
        [True, False, True, True, True]
        >>> y.sum().backward()
        >>> bool(p.grad != 0)
        True
    """
    training = check_training(training)
    _native.check_dtype(input, training)
    check_rate(p, input)
    _concrete.check_positive(temperature=temperature)

    def drawn(bits: Tensor) -> Tensor:
        return lean(_relaxed, input, p, bits, temperature, noise_shape, place)

    return drawn_in_training(input, training, (key, generator), lambda: input, drawn)


def _relaxed(
    input: Tensor, p: Tensor, key: Tensor, temperature: float, noise: Noise | None, place: Any
) -> Tensor:
    u = numbers(input, key, "middle", noise, place)
    wide = torch.promote_types(input.dtype, torch.float32)
    rate = p.to(input.device, wide)
    inside = rate.clamp(torch.finfo(wide).tiny, 1.0 - torch.finfo(wide).eps / 2)
    odds = (torch.log(u) - torch.log1p(-u)).to(wide)
    value: Tensor = _concrete.relaxed(input.to(wide), odds, rate, inside, temperature, torch, (1.0, 0.0))
    return value.to(input.dtype)


@overridable
def standout(
    input: Tensor,
    p: Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Drop each element by a probability of its own, which may have a gradient; what is kept stays as it is.

    The gradient of p is that of the expectation, −x times the upstream gradient: for what is linear in the
    mask it is unbiased.

    Args:
        input: tensor of any shape; float32, float64, float16 or bfloat16.
        p: drop probabilities in [0, 1], a floating tensor that may require a gradient; the paper's is
            1 − σ(α s + β), of the unit's pre-activation s.
        training: True drops, False evaluates to the expectation input · (1 − p).
        key: of the mask, the contract's at p. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype; what is dropped is +0.0, and its gradient to input 0.

    Raises:
        TypeError: `p must be a floating tensor, got …`; `training is missing …`.
        ValueError: `p must be in [0, 1], got …`; `p of shape … does not fit …`.

    Source:
        Ba and Frey, "Adaptive dropout for training deep neural networks", NeurIPS 2013.

    Example:
        >>> import torch, thinned
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> standout(x, torch.sigmoid(-x + 3), training=True, key=thinned.Key(0))
        tensor([1., 0., 3., 4., 5.])
    """
    training = check_training(training)
    _native.check_dtype(input)
    check_rate(p, input)

    def drawn(bits: Tensor) -> Tensor:
        return lean(_dropped, input, p, bits, place)

    return drawn_in_training(input, training, (key, generator), lambda: _expectation(input, p), drawn)


def _expectation(input: Tensor, p: Tensor) -> Tensor:
    rate = p.to(input.device)
    return (input * (1.0 - rate)).to(input.dtype).masked_fill(rate.detach() == 1, 0.0)


def _dropped(input: Tensor, p: Tensor, key: Tensor, place: Any) -> Tensor:
    fixed = p.detach()
    result = dropout(input, fixed, True, key=key, mode="classic", **place)
    if not (p.requires_grad or _compat.transforms_active()):  # a forward-mode tangent asks for no gradient
        return result
    # Worth 0; its derivative in p is that of the expectation.
    value = torch.nan_to_num(input.detach(), posinf=0.0, neginf=0.0)
    return result + ((fixed - p).to(input.device) * value).to(input.dtype)
