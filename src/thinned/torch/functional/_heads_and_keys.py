"""These functions drop attention's heads, and keys before the softmax."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED, check_training
from thinned.contract import Key, check_integer
from thinned.torch import _native, _rate
from thinned.torch._numbers import drop_threshold, numbers
from thinned.torch._overrides import overridable
from thinned.torch._placement import Place
from thinned.torch._remat import drawn_in_training, lean
from thinned.torch.functional._dropout import dropout


@overridable
def drop_head(
    input: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    dim: int = 1,
    shared: bool = False,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Drop heads of attention's output, before it is projected: one decision a sample and head.

    Args:
        input: (N, H, …), what each head gives; float32, float64, float16 or bfloat16.
        p: drop probability in [0, 1], a number or a tensor: see `dropout`.
        training: True drops, False evaluates to input itself.
        dim: of the heads; not the first, which is the batch's.
        shared: one decision a head for all samples.
        key: of the mask, which is one of shape (N, H, 1, …), or (1, H, 1, …) where it is shared.
        generator: where a key is drawn from without one.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape, dtype and layout; kept heads times 1/(1−p), dropped ones +0.0.

    Raises:
        TypeError: `dim must be an integer, got …`; else as `dropout`.
        ValueError: `dim=… is no dimension of heads in shape …`; else as `dropout`.

    Source:
        Zhou et al., "Scheduled DropHead: A Regularization Method for Transformer Models", EMNLP Findings
        2020. There what is kept is multiplied by H over the kept heads; here by 1/(1−p), as contracted.

    Example:
        >>> import torch, thinned
        >>> heads = drop_head(torch.ones(2, 4, 3, 8), 0.5, training=True, key=thinned.Key(0))
        >>> heads[:, :, 0, 0]
        tensor([[2., 0., 2., 2.],
                [2., 2., 2., 2.]])
    """
    training = check_training(training)
    noise = heads_noise(input, dim, shared)
    return dropout(input, p, training, key=key, generator=generator, noise_shape=noise, **place)


def heads_noise(input: Tensor, dim: int, shared: bool) -> tuple[int | None, ...]:
    """The noise shape of a decision for each head."""
    rank = input.dim()
    at = check_integer("dim", dim)
    at = at + rank if at < 0 else at
    if not 0 < at < rank:
        raise ValueError(
            f"dim={dim} is no dimension of heads in shape {tuple(input.shape)}: the first is the batch's"
        )
    noise: list[int | None] = [1] * rank
    noise[at] = None
    if not shared:
        noise[0] = None
    return tuple(noise)


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
    if not input.dim():
        raise ValueError("input must be (…, queries, keys), got shape ()")

    def drawn(bits: Tensor) -> Tensor:
        return lean(_seen, input, bits, drop_threshold(p, input.device), place)

    return drawn_in_training(input, training, (key, generator), lambda: _whole(input), drawn)


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
