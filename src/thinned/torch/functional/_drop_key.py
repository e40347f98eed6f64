"""DropKey: keys that a query does not see, chosen before the softmax."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key
from thinned.torch import _export, _key, _mesh, _native, _rate
from thinned.torch._lean import lean
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._place import Place


@overridable
def drop_key(
    input: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Softmax of scores, where each query does not see a key with probability p.

    Dropped are scores and not probabilities: what a query does see still adds up to 1.

    Args:
        input: (…, queries, keys), scores of attention; float32, float64, float16 or bfloat16.
        p: probability in [0, 1] that a key is not seen, a number or a tensor: see `dropout`.
        training: True drops, False evaluates.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        Probabilities of input's shape and dtype. A query that sees no key has zeros, as in attention here.

    Raises:
        TypeError: as `dropout`.
        ValueError: `p must be in [0, 1], got …`.

    Source:
        Bonan Li et al., "DropKey for Vision Transformer", CVPR 2023.

    Example:
        >>> import torch, thinned
        >>> drop_key(torch.zeros(1, 5), 0.5, training=True, key=thinned.Key(0))
        tensor([[0.2500, 0.0000, 0.2500, 0.2500, 0.2500]])
    """
    training = check_training(training)
    _native.check_dtype(input)
    _rate.threshold(p, input)
    key = _key.check_source(key, generator)
    if not input.dim():
        raise ValueError("input must be (…, queries, keys), got shape ()")
    if not training:
        return _whole(input)
    _mesh.check_source(input, key, generator)
    drop = drop_threshold(p, input.device)
    result = lean(_seen, input, _key.as_tensor(key, generator), drop, place)
    return _export.turned(result, lambda: _whole(input))


def _whole(input: Tensor) -> Tensor:
    """The softmax of all keys; a query whose keys a mask of the model hides has zeros, as in training."""
    none = (input == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(input.masked_fill(none, 0.0), -1).masked_fill(none, 0.0)


def _seen(input: Tensor, key: Tensor, drop: Tensor, place: Place) -> Tensor:
    kept = numbers(input, key, "word", None, place) >= drop
    # A key that a mask of the model hides by −inf is none that is left.
    none = ~(kept & (input != -torch.inf)).any(-1, keepdim=True)
    # Where no key is left the softmax is of zeros, so that no gradient is NaN, and then taken away.
    shown = input.masked_fill(~kept, -torch.inf).masked_fill(none, 0.0)
    return torch.softmax(shown, -1).masked_fill(none, 0.0)
