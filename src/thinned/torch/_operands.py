"""An operator's operands are checked here before anything reads or makes memory.

The dispatcher calls an operator's shape function where any operand is on the meta device. A result on another
device would be made there and never written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thinned.torch import _native


def check(name: str, input: Tensor, key: Tensor, p: Tensor, **beside: Tensor | None) -> None:
    """Refuse operands of `name(Tensor input, Tensor key, Tensor p, …)`.

    Args:
        name: the operator's.
        input: what is dropped.
        key: one (2,), or one each for input's first dimensions.
        p: of no dimension, or with one for each of input's.
        **beside: other tensors by their names, on input's device.

    Raises:
        TypeError: `input must be …`; `key must be int64 …`; `p must be a real number …`.
        ValueError: `key of shape … does not fit …`; `p of shape … does not fit …`; `… is on …`.
    """
    _native.check_dtype(input)
    if key.dtype != torch.int64 or not key.dim() or key.shape[-1] != 2:
        raise TypeError(
            f"key must be int64 of shape (…, 2), its seed and stream, got {key.dtype} of shape "
            f"{tuple(key.shape)}"
        )
    many = key.dim() - 1
    if many and key.shape[:-1] != input.shape[:many]:
        raise ValueError(
            f"key of shape {tuple(key.shape)} does not fit input of shape {tuple(input.shape)}: its "
            "dimensions but the last are input's first ones"
        )
    if p.dtype == torch.bool or p.is_complex():
        raise TypeError(f"p must be a real number, got a tensor of {p.dtype}")
    check_fit(p, input)
    has_values(name, input, key=key, p=p)
    one_device("input", input, **beside)


def one_device(name: str, input: Tensor, /, **beside: Tensor | None) -> None:
    """Refuse tensors of two devices: torch multiplies one without memory by one that has some, to garbage."""
    for other, tensor in beside.items():
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{other} is on {tensor.device} and {name} on {input.device}: move one of them")


def check_fit(p: Tensor, input: Tensor) -> None:
    """Refuse p that is neither one number nor has one dimension for each of input's, its size or 1."""
    if p.dim() and (
        p.dim() != input.dim()
        or any(one not in (1, size) for one, size in zip(p.shape, input.shape, strict=True))
    ):
        raise ValueError(
            f"p of shape {tuple(p.shape)} does not fit input of shape {tuple(input.shape)}: give one number, "
            "or one dimension for each of input's, its size or 1 (one p per row of a matrix is p[:, None])"
        )


def has_values(name: str, first: Tensor, **others: Tensor) -> None:
    """Refuse operands without values, on the meta device, beside a first one that has some."""
    for other, tensor in others.items():
        if tensor.device.type == "meta" and first.device.type != "meta":
            raise ValueError(
                f"{other} is on the meta device and has no value, but {name} is to return one on "
                f"{first.device}: make {other} on the CPU or on {first.device}"
            )
