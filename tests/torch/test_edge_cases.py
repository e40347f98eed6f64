"""LANDSCAPE's rulings on edge cases, row by row, for the PyTorch front end."""

import pytest
import torch

from thinned import Key
from thinned.torch.functional import dropout, keep_mask
from thinned.torch.nn import Dropout

X = torch.ones(4, 6)


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
