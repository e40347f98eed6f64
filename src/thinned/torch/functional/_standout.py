"""Standout: units dropped with probabilities that a belief network gives."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _compat, _export, _key, _mesh, _native
from thinned.torch._lean import lean
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._dropout import dropout
from thinned.torch.functional._rates import check_rate


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
    key = _key.check_source(key, generator)
    if not training:
        return _expectation(input, p)
    _mesh.check_source(input, key, generator)
    result = lean(_dropped, input, p, _key.as_tensor(key, generator), place)
    return _export.turned(result, lambda: _expectation(input, p))


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
