"""Gaussian dropout's kernel: deviates and values of the NumPy front end, to the bit."""

import numpy as np
import pytest
import torch
from arrays import DTYPES, array, numbers, rate
from equal_bits import assert_equal_bits

from thinned import Key
from thinned._position import positions
from thinned.torch import _cuda, _key, functional
from thinned.torch._triton import _launch

KEY = Key(2**63 + 11, 2**40 + 3)
BITS = _key.key_to_tensor(KEY)


def launch(x, p, key=BITS, **where):
    shapes = [where.get(name) for name in ("noise_shape", "global_shape", "start", "step")]
    base, strides = positions(tuple(x.shape[key.dim() - 1 :]), *shapes)
    return _launch.dropout(x, torch.empty_like(x), key, rate(p), True, base, strides, "noise")


def check(x, p=0.3, **where):
    """Against the CPU's operator, whose deviates tests/torch/test_gaussian.py holds to be NumPy's."""
    names = {name: list(where[name]) for name in where}
    theirs = torch.ops.thinned.gaussian_dropout(x, BITS, rate(p), **names)
    assert_equal_bits(*(np.ascontiguousarray(array(y)) for y in (launch(x, p, **where), theirs)))


@pytest.mark.parametrize(
    "dtype", [d if d.itemsize == 4 else pytest.param(d, marks=pytest.mark.full) for d in DTYPES], ids=str
)
def test_values(dtype):
    check(numbers(2000, dtype))


@pytest.mark.full
@pytest.mark.parametrize("p", [0.0, 1 - 2.0**-30])
def test_rates(p):
    check(numbers(200), p)


@pytest.mark.full
def test_layouts():
    x = numbers((2, 3, 72))  # masks.py and layouts.py have the places of all kinds
    for one in (x.transpose(0, 2), x[:0]):
        check(one)
    check(x, noise_shape=(2, 3, 1))
    check(x, noise_shape=(2, 1, 72))
    check(numbers(203), global_shape=(2**62,), start=(2**40 + 5,))


@pytest.mark.full
def test_a_p_and_a_key_for_each_row():
    x = numbers((3, 24))
    p = torch.tensor([[0.0], [0.3], [0.9]], dtype=torch.float64)
    y = launch(x, p)
    for row in range(3):
        where = {"global_shape": (3, 24), "start": (row, 0)}
        assert torch.equal(y[row : row + 1], launch(x[row : row + 1], float(p[row]), **where))
    keys = torch.stack([BITS, BITS + 1, BITS + 2])
    y = launch(x, 0.3, keys)
    for row, key in enumerate(keys):
        assert torch.equal(y[row], launch(x[row], 0.3, key))


@pytest.mark.full
@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_key_and_p_are_read_by_the_kernel():
    for x in (numbers(300), numbers((30, 3)).t()):
        check(x)


@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_the_verb_and_its_gradient_go_by_the_kernel(monkeypatch):
    x, upstream = numbers((2, 80)).requires_grad_(), numbers((2, 80), seed=1)
    found = []
    for served in (True, False):
        monkeypatch.setattr(_cuda, "serves", lambda input, served=served: served)
        y = functional.gaussian_dropout(x, 0.3, True, key=KEY)
        found.append((y, *torch.autograd.grad(y, x, upstream)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
