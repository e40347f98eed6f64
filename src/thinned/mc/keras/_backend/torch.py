"""On PyTorch the operators take many keys, and nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from thinned._position import row_major
from thinned.keras import _compat
from thinned.torch import _operator, _plain

BYTES = 0  # the kernel makes no mask


def keys(pairs: Any) -> Tensor:
    """Tells where the model is."""
    return torch.from_numpy(pairs).to(_compat.device_of_torch())


def dropout(x: Tensor, p: float, keys: Tensor, noise_shape: Any, inverted: bool) -> Tensor:
    """Key k drops x[k], positions counted from 0 in each."""
    rate = torch.tensor(p, dtype=torch.float64)
    return _operator.dropout(x.contiguous(), keys, rate, inverted, noise_shape)


def normal(shape: tuple[int, ...], keys: Tensor) -> Tensor:
    """Normal deviates of each key, float32, shape (keys, *shape)."""
    whole, ones = (keys.shape[0], *shape), (1,) * len(shape)
    seeds, streams = (word.reshape(-1, *ones) for word in keys.unbind(-1))
    return _plain.normal(whole, (seeds, streams), 0, row_major(shape), keys.device).expand(whole)


def single(keys: Tensor) -> Tensor:
    """The only key."""
    return keys[0].cpu()


def values(variables: list[Any]) -> list[Any]:
    """Returns None: a function reads variables when it runs."""
    return []


def look(function: Callable[..., Any], found: list[int], x: Any) -> None:
    """Run it."""
    with torch.no_grad():
        function(found, x)


def quiet() -> Any:
    """Runs without gradients."""
    return torch.no_grad()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself."""
    return function
