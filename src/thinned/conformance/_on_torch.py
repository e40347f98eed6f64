"""This backend makes the mask with PyTorch, part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned.conformance._case import KEY, SHAPE, NotRun, P, parts
from thinned.torch import functional


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    found = []
    for rows in parts(shards):
        thin = lowered(
            lambda x, first=rows.start: functional.dropout(
                x, P, True, key=KEY, global_shape=SHAPE, start=(first, 0)
            ),
            compiled,
        )
        found.append(thin(torch.ones(len(rows), SHAPE[1], device=where(device))) != 0)
    return torch.cat(found).cpu().numpy()


def where(device: str) -> torch.device:
    """This machine's device of a kind."""
    if device == "gpu" and not torch.cuda.is_available():
        raise NotRun("no GPU here")
    return torch.device("cuda" if device == "gpu" else "cpu")


def lowered(function: Callable[..., Tensor], compiled: bool) -> Callable[..., Tensor]:
    """The function, by torch.compile if asked for."""
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True) if compiled else function
