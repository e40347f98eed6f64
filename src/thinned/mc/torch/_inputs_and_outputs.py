"""Inputs become batches of tensors here, and a model's outputs the tensor that is meant."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinned.mc._collect import split
from thinned.torch import _compat


def batches(x: Any, batch_size: int, batch_dim: int, model: torch.nn.Module) -> Iterator[tuple[Any, int]]:
    """Batches and how many inputs each holds: the model's positional and keyword arguments, as tensors.

    A tensor, an array, a tuple (the positional arguments) or a mapping (the keyword arguments) is cut into
    batches; whatever else can be iterated gives them, and of a pair or list the first entry is the input.
    """
    x = _as_array(x)
    if isinstance(x, (Tensor, np.ndarray, np.generic, tuple, Mapping)):
        call = as_call(x, model)
        rows = _rows(call, batch_dim)
        for first, stop in split(rows, batch_size):
            if (first, stop) == (0, rows):
                yield call, rows
                return
            yield cut(call, first, stop, batch_dim), stop - first
        return
    if not hasattr(x, "__iter__") or isinstance(x, (str, bytes, list)):
        raise TypeError(
            "x must be an array, a tensor, a tuple or mapping of them, or a DataLoader, got "
            f"{type(x).__name__}"
        )
    for batch in x:
        found = batch[0] if isinstance(batch, (list, tuple)) else batch
        call = as_call(found, model)
        yield call, _rows(call, batch_dim)


def _as_array(x: Any) -> Any:
    """A data frame's numbers; anything else as it is."""
    if not hasattr(x, "to_numpy"):
        return x
    array = x.to_numpy()
    if array.dtype == object:
        raise TypeError(
            f"x is a {type(x).__name__} with columns that are no numbers: pass those that the model takes, "
            "x[columns].to_numpy(dtype=np.float32)"
        )
    return array


def cut(call: Any, first: int, stop: int, batch_dim: int) -> Any:
    """Some inputs of a batch."""
    return _compat.pytree.tree_map_only(Tensor, lambda t: t.narrow(batch_dim, first, stop - first), call)


def flat(call: Any) -> tuple[list[Any], Any]:
    """The leaves of a call and their places in it, without pytree for a single tensor (30 µs)."""
    if _is_one_tensor(call):
        return [call[0][0]], _one_tensor()
    leaves, spec = _compat.pytree.tree_flatten(call)
    return leaves, spec


def _is_one_tensor(call: Any) -> bool:
    return len(call[0]) == 1 and not call[1] and type(call[0][0]) is Tensor


@functools.cache
def _one_tensor() -> Any:
    return _compat.pytree.tree_flatten(((torch.empty(0),), {}))[1]


def kind(leaves: list[Any], spec: Any, batch_dim: int) -> Any:
    """Gives what a trace for such arguments depends on."""
    kinds = [_kind(one, batch_dim) for one in leaves]
    return kinds[0] if spec is _one_tensor() else repr((kinds, spec))


def _kind(leaf: Any, batch_dim: int) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return (*leaf.shape[:batch_dim], *leaf.shape[batch_dim + 1 :], leaf.dtype, leaf.device)


def as_call(x: Any, model: torch.nn.Module) -> Any:
    """Positional and keyword arguments, where the model's parameters are, floating arrays in their type."""
    if isinstance(x, Tensor):
        first = next(model.parameters(), None)
        return (x if first is None else x.to(first.device),), {}
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    device = next((p.device for p in model.parameters()), None)

    def tensor(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if device is None else value.to(device)
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        made = torch.from_numpy(np.ascontiguousarray(value))
        dtype = parameter.dtype if parameter is not None and made.is_floating_point() else made.dtype
        return made.to(device=device, dtype=dtype)

    values = _compat.pytree.tree_map(tensor, dict(x) if isinstance(x, Mapping) else x)
    if isinstance(values, dict):
        return (), values
    return (tuple(values), {}) if isinstance(values, tuple) else ((values,), {})


def _rows(call: Any, batch_dim: int) -> int:
    tensors = [t for t in flat(call)[0] if isinstance(t, Tensor)]
    if not tensors:
        raise TypeError(f"x must hold an array or a tensor, got {call!r:.80}")
    least = min(t.dim() for t in tensors)
    if not 0 <= batch_dim < least:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ValueError(f"batch_dim must be in [0, {least}), a dimension of x, got {batch_dim} for {shapes}")
    sizes = {t.shape[batch_dim] for t in tensors}
    if len(sizes) != 1:
        raise ValueError(
            f"x must have as many inputs in each of its tensors along dimension {batch_dim}, got "
            f"{sorted(sizes)}: bind what belongs to no input to the model"
        )
    return sizes.pop()


def meant(result: Any) -> Tensor:
    """The tensor that a model means: its `logits` where it has them, else the first of several.

    Raises:
        TypeError: `the model must return a tensor, …, got …`.
    """
    if isinstance(result, dict):
        result = result.get("logits", result)
    elif not isinstance(result, (Tensor, tuple, list)):
        result = getattr(result, "logits", result)
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    if not isinstance(result, Tensor):
        raise TypeError(
            f"the model must return a tensor, a tuple that begins with one, or something with logits, got "
            f"{type(result).__name__}: wrap it in a module that returns the outputs"
        )
    return result


def of_one(result: Any, batch_dim: int) -> Tensor:
    """The tensor that a model means for one input.

    Raises:
        ValueError: `the model must return one output for each input …`.
    """
    found = meant(result)
    if found.dim() <= batch_dim or found.shape[batch_dim] != 1:
        raise ValueError(
            f"the model must return one output for each input along dimension {batch_dim}, got shape "
            f"{tuple(found.shape)} for one input"
        )
    return found


def as_array(out: Tensor) -> npt.NDArray[Any]:
    """Returns a NumPy array, which has no bfloat16."""
    return (out.float() if out.dtype == torch.bfloat16 else out).cpu().numpy()
