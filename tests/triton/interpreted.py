"""A pytest plugin for a process with TRITON_INTERPRET=1: kernels run in NumPy, on CPU tensors.

It corrects what Triton 3.7's interpreter does otherwise than a GPU; a test holds each to be still needed.
"""

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter

from thinned.contract import round_bfloat16, widen_bfloat16

_convert, _pass = interpreter._convert_float, interpreter._implicit_cvt
_dot = interpreter.InterpreterBuilder.create_dot


def exact(data, source, target, mode):
    """What a GPU does; the interpreter rounds to bfloat16 toward zero and loses subnormals."""
    if (source, target) == (tl.float32, tl.bfloat16):
        return round_bfloat16(data).reshape(data.shape)
    if (source, target) == (tl.bfloat16, tl.float32):
        return widen_bfloat16(data).reshape(data.shape).view(np.uint32)
    return _convert(data, source, target, mode)


def whole(argument):
    """An int64 where the type says so: the interpreter holds 2^31 … 2^32 − 1 in 32 bits, signed later."""
    if isinstance(argument, int) and 2**31 <= argument < 2**32:
        return tl.tensor(interpreter.TensorHandle(np.array([argument], np.int64), tl.int64), tl.int64)
    return _pass(argument)


def product(self, a, b, *rest):
    """Of two matrices; the interpreter takes the bits of a bfloat16 for an integer."""
    a, b = (
        interpreter.TensorHandle(widen_bfloat16(one.data).reshape(one.data.shape), tl.float32)
        if one.dtype.scalar == tl.bfloat16
        else one
        for one in (a, b)
    )
    return _dot(self, a, b, *rest)


@pytest.fixture(autouse=True)
def _as_a_gpu_computes(monkeypatch):
    monkeypatch.setattr(interpreter, "_convert_float", exact)
    monkeypatch.setattr(interpreter, "_implicit_cvt", whole)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", product)
    torch.set_num_threads(1)
    with np.errstate(all="ignore"):  # NaN and Inf are meant; Triton knows no warnings
        yield


@pytest.fixture
def small_tensors_are_read_in_the_kernel(monkeypatch):
    """As with a key and p on the GPU."""
    from thinned.torch._triton import _launch

    monkeypatch.setattr(_launch, "_on", lambda input, small: True)


@pytest.fixture
def kernels_serve_the_cpu(monkeypatch):
    """The operators run as on a GPU."""
    from thinned.torch import _cuda, _eager

    monkeypatch.setattr(_cuda, "serves", lambda input: True)
    monkeypatch.setattr(_cuda, "multiplies", lambda input: True)
    monkeypatch.setattr(_eager, "applies", lambda input: False)
