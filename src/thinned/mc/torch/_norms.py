"""Batch normalisation in a module that is told to train: it evaluates."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from thinned.torch._draws import Draws, Handler

_TRAINING = 5  # the place of `training`, in all of them


def _evaluates(statistics: int) -> Handler:
    """A batch normalisation, which evaluates whatever its module was told: no buffer moves.

    `statistics` is the place of the running mean. Without one there is nothing to evaluate with.
    """

    def handler(draws: Draws, func: Any, args: Any, kwargs: Any) -> Any:
        mean = args[statistics] if len(args) > statistics else kwargs.get("running_mean")
        if mean is None:
            return func(*args, **kwargs)
        if len(args) > _TRAINING:
            return func(*args[:_TRAINING], False, *args[_TRAINING + 1 :], **kwargs)
        return func(*args, **{**kwargs, "training": False})

    return handler


NORMS: dict[Any, Handler] = {
    F.batch_norm: _evaluates(1),
    **dict.fromkeys((torch.batch_norm, torch.ops.aten.batch_norm.default), _evaluates(3)),
}
