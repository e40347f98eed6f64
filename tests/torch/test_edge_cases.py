"""LANDSCAPE's rulings on edge cases, row by row, for the PyTorch front end."""

import math

import numpy as np
import pytest
import torch

from thinned import Key
from thinned.torch.functional import dropout, keep_mask
from thinned.torch.nn import Dropout

X = torch.ones(4, 6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan, math.inf])
def test_p_out_of_range(p, training):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        dropout(X, p, training)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        Dropout(p)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [True, "0.5", None, torch.tensor(True)])
def test_p_of_the_wrong_type(p, training):
    with pytest.raises(TypeError, match="p must be a real number, got"):
        dropout(X, p, training)
    with pytest.raises(TypeError, match="p must be a real number, got"):
        Dropout(p)


def test_p_as_a_tensor():
    assert torch.equal(
        dropout(X, torch.tensor(0.1), True, key=Key(1)), dropout(X, float(np.float32(0.1)), True, key=Key(1))
    )
    with pytest.raises(ValueError, match="p has no gradient"):
        dropout(X, torch.tensor(0.1, requires_grad=True), True)


def test_p_zero_is_the_input_itself():
    x = torch.ones(5, requires_grad=True)
    assert dropout(x, 0, True) is x
    assert dropout(x, 0.5, False) is x
    dropout(x, 0.0, True).sum().backward()
    assert torch.equal(x.grad, torch.ones(5))


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("inplace", [True, False])
def test_p_one_is_zero(mode, inplace):
    x = torch.tensor([math.nan, math.inf, -math.inf, -1.0], requires_grad=True)
    y = dropout(x.clone(), 1.0, True, inplace, mode=mode)
    assert not y.detach().view(torch.int32).any()
    y.backward(torch.full((4,), math.nan))
    assert not x.grad.view(torch.int32).any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_other_dtypes(dtype, training):
    with pytest.raises(TypeError, match=f"input must be float32.*got {dtype}"):
        dropout(torch.ones(3, dtype=dtype), 0.5, training)


def test_empty_and_zero_dimensional():
    assert dropout(torch.ones(0, 3), 0.5, True).shape == (0, 3)
    assert dropout(torch.tensor(1.0), 0.5, True).item() in (0.0, 2.0)
    assert keep_mask((), 0.5, key=Key(0)).shape == ()


@pytest.mark.parametrize("noise", [(4,), (4, 6, 1), (2, 6), (0, 6)])
def test_noise_shape_that_does_not_fit(noise):
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit x of shape \(4, 6\)"):
        dropout(X, 0.5, True, noise_shape=noise)
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit"):
        Dropout(noise_shape=noise)(X)


def test_expanded_input():
    x = torch.ones(1, 6).expand(4, 6)
    assert torch.equal(dropout(x, 0.5, True, key=Key(2)), dropout(X, 0.5, True, key=Key(2)))
    with pytest.raises(ValueError, match="inplace=True needs elements that do not share memory"):
        dropout(x, 0.5, True, True)


def test_a_lazily_negated_input():
    """Its memory holds the opposite of its value."""
    x = torch.randn(50, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    expected = dropout(x.clone(), 0.5, True, key=Key(2))
    assert torch.equal(dropout(x, 0.5, True, key=Key(2)), expected)


def test_gradients_that_have_no_memory_of_their_own():
    """Lazily negated, all zero, batched: the backward pass takes each by its value."""
    mask = keep_mask(50, 0.5, key=Key(2))
    x = torch.randn(50, requires_grad=True)
    y = dropout(x, 0.5, True, key=Key(2))
    negated = torch.randn(50, dtype=torch.complex64).conj().imag
    (got,) = torch.autograd.grad(y, x, negated, retain_graph=True)
    assert torch.equal(got, torch.where(mask, negated * 2, 0.0))
    (got,) = torch.autograd.grad(y, x, torch._efficientzerotensor(50), retain_graph=True)
    assert torch.equal(got, torch.zeros(50))
    batch = torch.randn(3, 50)
    (got,) = torch.autograd.grad(y, x, batch, is_grads_batched=True)
    assert torch.equal(got, torch.where(mask, batch * 2, 0.0))
    assert torch.equal(dropout(torch._efficientzerotensor(50), 0.5, True, key=Key(2)), torch.zeros(50))


def test_training_not_given():
    with pytest.raises(TypeError, match=r"pass training=self\.training"):
        dropout(X, 0.5)


def test_key_and_generator():
    with pytest.raises(TypeError, match="pass key or generator, not both"):
        dropout(X, 0.5, True, key=Key(0), generator=torch.Generator())
    with pytest.raises(TypeError, match=r"make one with thinned\.Key"):
        dropout(X, 0.5, True, key=3)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be"):
        dropout(X, 0.5, True, mode="lasagne")
    with pytest.raises(ValueError, match="mode must be"):
        Dropout(mode="lasagne")


def test_shards_that_do_not_fit():
    with pytest.raises(ValueError, match="reaches outside global_shape"):
        dropout(X, 0.5, True, global_shape=(4, 5))
    with pytest.raises(ValueError, match="needs global_shape"):
        keep_mask(3, 0.5, key=Key(0), start=1)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_no_tensor_is_refused(training):
    with pytest.raises(TypeError, match=r"input must be a torch.Tensor, got ndarray"):
        dropout(X.numpy(), 0.5, training)


def test_training_refuses_what_has_no_strides():
    """Evaluation passes it through: `test_nested.py`."""
    with pytest.raises(
        TypeError, match=r"input must be strided, got torch.sparse_coo: pass input.to_dense\(\)"
    ):
        dropout(X.to_sparse(), 0.5, True)


@pytest.mark.parametrize("training", [None, "yes"])
def test_training_that_is_neither_true_nor_false(training):
    with pytest.raises(TypeError, match="training must be True to drop or False to evaluate, got"):
        dropout(X, 0.5, training)
