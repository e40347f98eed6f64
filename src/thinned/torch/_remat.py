"""A pure function is recomputed here in its backward pass: only its arguments are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from thinned.contract import Key
from thinned.torch import _compat, _export, _key, _mesh
from thinned.torch._placement import traced_by_jit


def lean(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """`function(*arguments)`, without what autograd would keep of its steps.

    The key has to be among the arguments, so that both computations have it. torch's transforms refuse the
    hooks of a checkpoint: under them the steps are kept.
    """
    wanted = any(isinstance(each, Tensor) and each.requires_grad for each in arguments)
    if not (wanted and torch.is_grad_enabled()) or _compat.transforms_active() or traced_by_jit():
        return function(*arguments)
    result: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def drawn_in_training(
    input: Tensor,
    training: bool,
    source: tuple[Key | Tensor | None, torch.Generator | None],
    evaluated: Callable[[], Tensor],
    drawn: Callable[[Tensor], Tensor],
) -> Tensor:
    """What a verb gives: `drawn(key)` in training, else `evaluated()`; an exported program holds both.

    Args:
        input: what is dropped.
        training: whether to draw.
        source: key and generator, as the verb was given them.
        evaluated: gives the result in evaluation.
        drawn: gives the result by a key as a tensor.
    """
    key = _key.check_source(*source)
    if not training:
        return evaluated()
    _mesh.check_source(input, key, source[1])
    return _export.turned(drawn(_key.as_tensor(key, source[1])), evaluated)
