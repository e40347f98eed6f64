"""Keras on PyTorch: the verbs of `thinned.torch`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinned._position import Shape
from thinned.contract import Key
from thinned.torch import _eager, _key, functional

_WORD = 2**32 - 1


def concrete(state: Tensor) -> npt.NDArray[Any] | None:
    """A state's two numbers, unless a compiler or a symbolic call is looking."""
    return np.array(state.tolist(), np.int32) if _eager.applies(state) else None


def derive(state: Tensor, base: Key | None, name: int) -> Tensor:
    """The key of a call, in the graph: of the state's seed and a name, or of a base, folded by its number."""
    seed, number = state.detach().long().bitwise_and(_WORD).unbind()
    if base is None:
        key = _key.fold(torch.stack([seed, torch.zeros_like(seed)]), name)
    else:
        key = _key.key_to_tensor(base).to(state.device)
    return _key.fold(key, number)


def dropout(
    x: Tensor, rate: float, key: Key | Tensor, training: bool, noise_shape: Any = None, mode: Any = "inverted"
) -> Tensor:
    """`thinned.torch.functional.dropout`."""
    return functional.dropout(x, rate, training, key=key, noise_shape=noise_shape, mode=mode)


def keep_mask(shape: Shape, rate: float, key: Key) -> Tensor:
    """`thinned.torch.functional.keep_mask`."""
    return functional.keep_mask(shape, rate, key=key)


def gaussian_dropout(x: Tensor, rate: float, key: Key | Tensor) -> Tensor:
    """`thinned.torch.functional.gaussian_dropout`, in training."""
    return functional.gaussian_dropout(x, rate, True, key=key)
