"""Mixout: weights that go back to those of a model that was trained before."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from thinned._arguments import REQUIRED
from thinned.contract import Key
from thinned.torch._overrides import overridable
from thinned.torch._place import Place
from thinned.torch.functional._dropout import dropout


@overridable
def mixout(
    input: Tensor,
    target: Tensor,
    p: float | Tensor,
    training: bool = REQUIRED,
    *,
    key: Key | Tensor | None = None,
    generator: torch.Generator | None = None,
    **place: Unpack[Place],
) -> Tensor:
    """Put the target's value in place of an element with probability p: dropout of the difference to it.

    target + dropout(input − target) is the paper's ((1 − m) w + m t − p t) / (1 − p); with target 0 it is
    dropout.

    Args:
        input: a parameter, of any shape; float32, float64, float16 or bfloat16.
        target: of its shape, the value that it had before fine-tuning.
        p: probability in [0, 1], a number or a tensor: see `dropout`.
        training: True mixes, False evaluates to input itself.
        key: of the mask. Without one, it is drawn from `generator`.
        generator: torch's default CPU generator if not given.
        **place: `global_shape`, `start` and `step` as in `dropout`.

    Returns:
        A tensor of input's shape and dtype; input itself in evaluation. At p = 1 the target.

    Raises:
        TypeError: as `dropout`.
        ValueError: `target must be of input's shape, got …`; else as `dropout`.

    Source:
        Cheolhyoung Lee, Kyunghyun Cho and Wanmo Kang, "Mixout: Effective Regularization to Finetune
        Large-scale Pretrained Language Models", ICLR 2020, definition 1.

    Example:
        >>> import torch, thinned
        >>> mixout(torch.full((5,), 3.0), torch.ones(5), 0.5, training=True, key=thinned.Key(0))
        tensor([5., 1., 5., 5., 5.])
    """
    if input.shape != target.shape or input.dtype != target.dtype:
        raise ValueError(
            f"target must be of input's shape and dtype, got {tuple(target.shape)} of {target.dtype} and "
            f"{tuple(input.shape)} of {input.dtype}"
        )
    apart = input - target
    mixed = dropout(apart, p, training, key=key, generator=generator, **place)
    return input if mixed is apart else target + mixed
