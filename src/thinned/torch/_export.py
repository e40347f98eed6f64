"""An exported graph decides here whether it drops, so that torch's own passes can change it.

A program that torch.export made of a model in training has no module left whose `training` could be set.
`move_exported_model_to_eval` and its like look for one operator, `aten.dropout`, and turn its flag. So each
of our masks has one beside it, of a single 1 at p = 1: it gives 0 while the program trains and 1 once it
evaluates, at any p (torch's passes set their own), and draws no random number as it was exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Not in torch 2.6: programs made there always train.
_exporting: Any = getattr(torch.compiler, "is_exporting", lambda: False)


def exporting() -> bool:
    """Tells whether the code that runs now becomes a program of torch.export."""
    return bool(_exporting())


def evaluates() -> Tensor | None:
    """True, as a tensor of no dimension, once the program evaluates; None where none is being made."""
    if not exporting():
        return None
    return torch.nn.functional.dropout(torch.ones((), device="cpu"), 1.0, True) == 1


def rate(p: Tensor) -> Tensor:
    """P while the program trains, and 0 once it evaluates; in all other code p itself."""
    flag = evaluates()
    # No product: a quantiser would take it for a layer's, and round p to eight bits.
    return p if flag is None else torch.where(flag.to(p.device), 0.0, p)


def turned(result: Tensor, evaluation: Callable[[], Tensor]) -> Tensor:
    """Gives what a verb gives in training; in an exported program, until that is turned to evaluation."""
    flag = evaluates()
    return result if flag is None else torch.where(flag, evaluation(), result)
