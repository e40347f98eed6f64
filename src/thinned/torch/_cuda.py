"""This file says which tensors the Triton kernels serve; torch's own operators serve the others."""

from __future__ import annotations

import functools
import importlib
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from thinned.torch import _compat, _eager, _mesh
from thinned.torch._native import DTYPES


@_compat.constant_to_the_compiler
def has_triton() -> bool:
    """Tells whether the kernels' compiler is installed: torch for CUDA brings it, but for Windows.

    Triton before 3.4 cannot index a tuple of constants, and before 3.3 takes none; torch 2.7 and 2.6 bring
    such. It is asked once, of the first tensor on a GPU, and where the answer is no, a warning says so.
    """
    return _has_triton()


@functools.cache
def _has_triton() -> bool:
    missing = "Triton is not installed"
    if find_spec("triton") is not None:
        language = importlib.import_module("triton.language")
        if hasattr(language, "gather") and hasattr(language.constexpr, "__getitem__"):
            return True
        missing = f"Triton is {importlib.import_module('triton').__version__}"
    warnings.warn(
        f"{missing}, and dropout's kernels for a GPU need 3.4 or later: the same masks are computed by "
        "torch's operators, many times slower. torch 2.8 and later bring it on Linux; for Windows there is "
        "triton-windows",
        stacklevel=3,
    )
    return False


def serves(input: Tensor) -> bool:
    """Tells whether there is a kernel for this tensor."""
    return input.is_cuda and has_triton()


def multiplies(input: Tensor) -> bool:
    """Tells whether a kernel multiplies matrices: for NVIDIA's, from compute capability 8.0 on."""
    return serves(input) and not torch.version.hip and torch.cuda.get_device_capability(input.device)[0] >= 8


def writes(input: Tensor) -> bool:
    """Tells whether a kernel may write to the tensor: nothing watches that would have to see an operator."""
    return serves(input) and _eager.ordinary(input) and not _compat.forward_derivatives()


def fuses(input: Tensor, *others: Any) -> bool:
    """Tells whether an operator of several tensors of one layout serves these.

    It has a gradient, but no rule for a transform of torch.func, and no forward derivative.
    """
    return (
        serves(input)
        and not any(_mesh.is_dtensor(each) for each in (input, *others))
        and all(isinstance(other, Tensor) and _fits(input, other) for other in others)
        and not watched()
    )


def watched() -> bool:
    """Tells whether a transform or a forward derivative is at work."""
    return bool(_compat.transforms_active()) or _compat.forward_derivatives()


def _fits(input: Tensor, other: Tensor) -> bool:
    return (
        other.device == input.device
        and other.shape == input.shape
        and other.dtype in DTYPES
        and other.is_contiguous()
        and input.is_contiguous()
    )
