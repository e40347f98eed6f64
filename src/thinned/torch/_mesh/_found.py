"""Whether a tensor is a DTensor, and what it asks for before an operator sees it.

Nothing here imports `torch.distributed.tensor`, which takes 0.6 s, unless a tensor of it is there already.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor


def is_dtensor(tensor: Any) -> bool:
    """Whether this is a DTensor."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def prepare(tensor: Any) -> None:
    """Teach DTensor our operators, the first time that one comes to them."""
    if not torch.compiler.is_compiling() and is_dtensor(tensor):
        _register()


@functools.cache
def _register() -> None:
    from thinned.torch._mesh import _rules

    _rules.register()


def check_source(input: Any, key: Any, generator: torch.Generator | None, name: str = "key") -> None:
    """Refuse to draw a key for a DTensor where nobody has said that all ranks draw the same one.

    Ranks are commonly seeded apart, and then replicas would silently disagree. To draw on one rank and send
    the key to the others would be communication that nobody asked for.
    """
    if key is None and generator is None and is_dtensor(input):
        raise RuntimeError(
            f"dropout of a DTensor needs a {name} that all ranks share: pass {name}=thinned.Key(seed), or "
            "give the model's layers theirs with thinned.torch.keyed(model, seed); where all ranks are "
            "seeded alike, pass generator=torch.default_generator"
        )
