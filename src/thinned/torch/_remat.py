"""A pure function is recomputed here in its backward pass: only its arguments are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from thinned.torch import _compat
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
