"""Dropout and a residual in one pass: the bits of the two calls."""

import math

import pytest
import torch

from thinned import Key
from thinned.torch import _native, functional
from thinned.torch.functional import dropout_add

# torch compiles derivatives of its own with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def pair(dtype, shape=(37, 53)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999, 0.0, 1.0])
def test_outputs_and_gradients_equal_the_two_calls(p, dtype):
    results = []
    for call in (
        lambda x, r: dropout_add(x, r, p, True, key=Key(7)),
        lambda x, r: functional.dropout(x, p, True, key=Key(7)) + r,
    ):
        x, residual = (t.clone().requires_grad_() for t in pair(dtype))
        y = call(x, residual)
        y.backward(torch.full_like(y, 3.0))
        results.append((y.detach(), x.grad, residual.grad))
    for ours, plain in zip(*results, strict=True):
        assert torch.equal(ours, plain)


def test_the_pass_is_one(monkeypatch):
    calls = []
    add = _native.add
    monkeypatch.setattr(_native, "add", lambda *arguments: calls.append(1) or add(*arguments))
    x, residual = pair(torch.float32)
    dropout_add(x, residual, 0.5, True)
    dropout_add(x.requires_grad_(), residual, 0.5, True)
    assert len(calls) == 2
    dropout_add(x, residual, 0.5, False)
    dropout_add(x.t(), residual.t(), 0.5, True)
    dropout_add(x, residual[:1], 0.5, True)
    assert len(calls) == 2


def test_other_layouts_and_shapes_equal_the_two_calls():
    x, residual = pair(torch.float32)
    turned = residual.t().contiguous().t()
    for a, b in (
        (x, turned),
        (turned, x),
        (x.t(), residual.t()),
        (x, residual[:1]),
        (x[::2], residual[::2]),
        (x, 2.0),
        (x[:0], x[:0]),
    ):
        expected = functional.dropout(a, 0.5, True, key=Key(1)) + b
        assert torch.equal(dropout_add(a, b, 0.5, True, key=Key(1)), expected)


def test_only_the_residual_has_a_gradient():
    x, residual = pair(torch.float32)
    dropout_add(x, residual.requires_grad_(), 0.5, True).sum().backward()
    assert torch.equal(residual.grad, torch.ones_like(residual))


def test_what_is_dropped_never_leaks():
    x = torch.full((1000,), math.nan, requires_grad=True)
    y = dropout_add(x, torch.ones(1000), 0.5, True, key=Key(1))
    kept = functional.dropout(torch.ones(1000), 0.5, True, key=Key(1)) != 0
    assert torch.equal(y.isnan(), kept)
    y.backward(torch.full((1000,), math.inf))
    assert torch.equal(x.grad == 0, ~kept)


def test_nothing_of_the_inputs_size_is_saved():
    saved = []
    x, residual = (t.requires_grad_() for t in pair(torch.float32))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        dropout_add(x, residual, 0.5, True)
    assert saved == []
