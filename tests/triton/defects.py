"""What the plugin corrects in Triton's interpreter. Where one of these fails, a correction is to go."""

import interpreted
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError


def test_bfloat16_is_rounded_toward_zero():
    data = np.array([1 + 2**-7 - 2**-20], np.float32)
    assert interpreted._convert(data, tl.float32, tl.bfloat16, None).view(np.uint16) == 0x3F80
    assert interpreted.exact(data, tl.float32, tl.bfloat16, None) == 0x3F81


def test_a_bfloat16_below_the_normal_ones_is_widened_to_another():
    data = np.array([0x0001], np.uint16)
    number = np.float32(2.0**-133)
    assert interpreted._convert(data, tl.bfloat16, tl.float32, None).view(np.float32) != number
    assert interpreted.exact(data, tl.bfloat16, tl.float32, None).view(np.float32) == number


@triton.jit
def squared(x, y):
    at = tl.arange(0, 16)
    place = at[:, None] * 16 + at[None, :]
    one = tl.load(x + place)
    tl.store(y + place, tl.dot(one, one))


def test_a_matrix_of_bfloat16_is_multiplied_as_one_of_integers(monkeypatch):
    ones, product = torch.ones(16, 16, dtype=torch.bfloat16), torch.zeros(16, 16)
    squared[(1,)](ones, product)
    assert torch.equal(product, torch.full_like(product, 16))
    monkeypatch.setattr(interpreted.interpreter.InterpreterBuilder, "create_dot", interpreted._dot)
    squared[(1,)](ones, product)
    assert product[0, 0] > 2**30


def test_an_integer_beyond_31_bits_is_held_in_32():
    assert interpreted._pass(2**31).dtype == tl.int64
    assert interpreted._pass(2**31).handle.data.dtype == np.uint32
    assert interpreted.whole(2**31).handle.data.dtype == np.int64


@triton.jit
def inverted(x):
    tl.store(x, ~tl.load(x).to(tl.uint32))


@pytest.mark.skipif(
    tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9), reason="Triton 3.9 has mended it"
)
def test_unsigned_numbers_have_no_inverse():
    """Where NumPy is 2 or later; the kernels write `word ^ 0xFFFFFFFF`, for Triton before 3.9."""
    with pytest.raises(InterpreterError, match="OverflowError"):
        inverted[(1,)](torch.zeros(1, dtype=torch.int32))
