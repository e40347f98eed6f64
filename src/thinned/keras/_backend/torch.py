"""Keras on PyTorch uses the functions of `thinned.torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinned._position import Shape
from thinned.contract import Key
from thinned.torch import _eager, _key, _recomputed, functional

_WORD = 2**32 - 1
PRODUCTS = (torch.Tensor.mul, torch.Tensor.__mul__)


def is_eager(state: Tensor) -> bool:
    """Tells whether no compiler or symbolic call is looking."""
    return _eager.applies(state)


def numbers(state: Tensor) -> npt.NDArray[Any]:
    """The two of an eager state."""
    return np.array(state.tolist(), np.int32)


def assign(state: Any, value: npt.NDArray[Any]) -> None:
    """Set a state's numbers, eagerly."""
    state.assign(value)


def advance(generator: Any) -> Tensor:
    """The state before, in a graph that moves it on."""
    state: Tensor = generator.next()
    return state


def replica() -> tuple[int, int]:
    """PyTorch's processes each have a model."""
    return 0, 1


def blocks(make: Callable[[], Any]) -> Any:
    """The checkpoints around a call: notes of those that run forward, and the one that runs again."""
    return _recomputed.notes(make)


def derive(state: Tensor, base: Key | None, name: int, replica: Any, replicas: Any) -> Tensor:
    """The key of a call, in the graph: of the state's seed and a name, or of a base, folded by its number."""
    seed, number = state.detach().long().bitwise_and(_WORD).unbind()
    if base is None:
        key = _key.fold(torch.stack([seed, torch.zeros_like(seed)]), name)
    else:
        key = _key.key_to_tensor(base).to(state.device)
    return _key.fold(key, number * replicas + replica)


def dropout(
    x: Tensor, rate: float, key: Key | Tensor, training: bool, noise_shape: Any = None, mode: Any = "inverted"
) -> Tensor:
    """`thinned.torch.functional.dropout`."""
    return functional.dropout(x, rate, training, key=key, noise_shape=noise_shape, mode=mode)


def keep_mask(shape: Shape, rate: float, key: Key) -> Tensor:
    """`thinned.torch.functional.keep_mask`."""
    return functional.keep_mask(shape, rate, key=key)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    rate: float,
    dropout_key: Key | Tensor,
    scale: float,
    causal: bool,
) -> Tensor:
    """Attention of (batch, length, heads, depth) by `thinned.torch`, in training."""
    q, k, v = (array.transpose(1, 2) for array in (query, key, value))
    output = functional.scaled_dot_product_attention(
        q, k, v, mask, rate, causal, scale, training=True, dropout_key=dropout_key
    )
    return output.transpose(1, 2)


def gaussian_dropout(x: Tensor, rate: float, key: Key | Tensor) -> Tensor:
    """`thinned.torch.functional.gaussian_dropout`, in training."""
    return functional.gaussian_dropout(x, rate, True, key=key)


def fold(key: Key | Tensor, number: int) -> Key | Tensor:
    """`thinned.torch.fold`."""
    return _key.folded(key, number)


def concrete_dropout(x: Tensor, p: Tensor, key: Key | Tensor, temperature: float, noise_shape: Any) -> Tensor:
    """`thinned.torch.functional.concrete_dropout`, in training."""
    return functional.concrete_dropout(x, p, True, temperature=temperature, key=key, noise_shape=noise_shape)


def mask_spans(x: Tensor, width: int, count: int, dim: int, key: Key | Tensor, value: float) -> Tensor:
    """`thinned.torch.functional.mask_spans`, in training."""
    return functional.mask_spans(x, width, count, dim, True, value=value, key=key)


def cutout(x: Tensor, size: Any, rate: float, key: Key | Tensor, layout: str, value: float) -> Tensor:
    """`thinned.torch.functional.cutout`, in training, of a view whose channels come second."""
    if layout == "NCHW":
        return functional.cutout(x, size, rate, True, value=value, key=key)
    first = functional.cutout(x.permute(0, 3, 1, 2), size, rate, True, value=value, key=key)
    return first.permute(0, 2, 3, 1)


def word_dropout(
    tokens: Tensor, rate: float, replacement: int, key: Key | Tensor, protected: tuple[int, ...]
) -> Tensor:
    """`thinned.torch.functional.word_dropout`, in training."""
    return functional.word_dropout(tokens, rate, replacement, True, protected=protected, key=key)
