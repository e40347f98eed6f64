"""Concrete dropout: a relaxed mask, through which the gradient reaches p."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned import _concrete
from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _export, _key, _mesh, _native
from thinned.torch._lean import lean
from thinned.torch._numbers import numbers
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._keep_mask import Noise
from thinned.torch.functional._rates import check_rate


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
    key = _key.check_source(key, generator)
    if not training:
        return input
    _mesh.check_source(input, key, generator)
    bits = _key.as_tensor(key, generator)
    result = lean(_relaxed, input, p, bits, temperature, noise_shape, place)
    return _export.turned(result, lambda: input)


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
