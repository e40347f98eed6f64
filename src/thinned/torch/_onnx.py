"""Dropout goes into ONNX files here as ONNX's own, or is refused."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _export
from thinned.torch._placement import traced_by_jit


def exporting() -> bool:
    """Tells whether torch.onnx.export is at work, by either of its ways."""
    return (traced_by_jit() or _export.exporting()) and torch.onnx.is_in_onnx_export()


def refuse(what: str) -> None:
    """Say what to do, while a file of ONNX is made.

    Raises:
        RuntimeError: `ONNX has no operator for …`.
    """
    if exporting():
        problem = (
            f"ONNX has no operator for {what}: it drops activations, or whole rows and channels of them, by "
            "random numbers of its own. Export model.eval(); or, to train from the file, take the keys away "
            "by thinned.torch.keyed(model, None) and put thinned.torch.nn.Dropout where another layer drops"
        )
        # The exporter takes an error for a reason to try another way, and shows that way's.
        warnings.warn(problem, stacklevel=2)
        raise RuntimeError(problem)


def dropout(input: Tensor, p: Any, noise_shape: Any, inverted: bool, *given: Any) -> Tensor:
    """Dropout as torch's own operator, which becomes ONNX's; `given` is what would need a mask of ours."""
    if any(one is not None for one in given):
        refuse("the mask of a key, or a part of a larger mask")
    if isinstance(p, Tensor):
        refuse("a drop probability that is a tensor")
    if noise_shape is None:
        result = torch.nn.functional.dropout(input, p, True)
    else:
        one_each = input[tuple(slice(0, 1) if n == 1 else slice(None) for n in noise_shape)]
        # Ones that depend on the input: ONNX's optimizer would drop constants only once.
        ones = one_each.isnan().logical_or(one_each.isnan().logical_not()).to(input.dtype)
        result = input * torch.nn.functional.dropout(ones, p, True)
    return result if inverted else result * (1.0 - p)
