"""Zoneout lets units of a recurrent state keep their old value."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import DROP_ALL, check_training, requires_training
from thinned.contract import Key
from thinned.torch import _export, _key, _mesh, _native, _plain, _rate
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch.functional._dropout import batched_keep_mask


@overridable
@requires_training
def zoneout(
    new: Tensor,
    old: Tensor,
    p: float | Tensor,
    training: bool,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Keep the old value of a unit with probability p, and take the new one otherwise.

    What dropout would drop stays as it was. One bool an element is kept for the backward pass.

    Args:
        new: the state of this time, of any shape; float32, float64, float16 or bfloat16.
        old: the state before, of the same shape and dtype.
        p: probability in [0, 1] to keep the old value, a number or a tensor: see `dropout`.
        training: True selects, False gives the expectation p · old + (1−p) · new.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of new's shape and dtype. A value that is not taken has no influence, were it NaN, and gets
        gradient 0.

    Raises:
        TypeError: `training is missing …`; `input must be float32, …`; `p must be a real number, got …`;
            `pass key or generator, not both`.
        ValueError: `p must be in [0, 1], got …`; `new and old must be of one shape and dtype, got …`.

    Source:
        Krueger et al., "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations", ICLR 2017.

    Example:
        >>> import torch, thinned
        >>> zoneout(torch.ones(6), torch.zeros(6), 0.5, training=True, key=thinned.Key(0))
        tensor([1., 0., 1., 1., 1., 1.])
    """
    training = check_training(training)
    _native.check_dtype(new)
    drop = _rate.threshold(p, new)
    if new.shape != old.shape or new.dtype != old.dtype:
        raise ValueError(
            f"new and old must be of one shape and dtype, got {tuple(new.shape)} of {new.dtype} and "
            f"{tuple(old.shape)} of {old.dtype}"
        )
    key = _key.check_source(key, generator)
    if drop == 0:
        return new
    if drop == DROP_ALL:
        return old
    rate = _rate.exactly(p, drop)
    if not training:
        return _expectation(new, old, rate)
    _mesh.check_source(new, key, generator)
    key = _key.as_tensor(key, generator)
    taken = torch.where(batched_keep_mask(new, rate, key, None, place), new, old)
    flag = _export.evaluates()
    return taken if flag is None else torch.where(flag, _expectation(new, old, rate), taken)


def _expectation(new: Tensor, old: Tensor, rate: Tensor) -> Tensor:
    wide = torch.promote_types(new.dtype, torch.float32)
    rate = _plain.double(rate)
    of_old, of_new = (share.to(wide).to(new.device) for share in (rate, 1.0 - rate))
    mixed = old.to(wide) * of_old + new.to(wide) * of_new
    only_new, only_old = ((rate == one).to(new.device) for one in (0, 1))
    # A state that has no share has no influence, were it NaN.
    return torch.where(only_new, new, torch.where(only_old, old, mixed.to(new.dtype)))
