"""This backend makes the mask with the CUDA kernels, run by Triton's interpreter."""

from __future__ import annotations

from typing import Any

import torch

from thinned._position import positions
from thinned.conformance._case import KEY, SHAPE, NotRun, P, parts
from thinned.torch import _key


def mask(device: str, compiled: bool, shards: int) -> Any:
    """True where kept."""
    if device == "gpu":
        raise NotRun("the interpreter is for CPUs; on a GPU this is PyTorch's row")
    if compiled:
        raise NotRun("torch.compile would not meet the interpreter")
    from thinned.torch._triton import _launch

    key, rate = _key.key_to_tensor(KEY), torch.tensor(P, dtype=torch.float64)
    found = []
    for rows in parts(shards):
        x = torch.ones(len(rows), SHAPE[1])
        base, strides = positions(tuple(x.shape), None, SHAPE, (rows.start, 0))
        found.append(_launch.dropout(x, torch.empty_like(x), key, rate, True, base, strides) != 0)
    return torch.cat(found).numpy()
