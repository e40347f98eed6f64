"""The sparse gradients that are asked for of thin layers, and what optimizers make of them."""

import pytest
import torch
from thin_families import close, made, step
from torch.nn import Dropout, Linear, ReLU

from thinned.torch import keyed, masked, thin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


def wide(**options):
    torch.manual_seed(2)
    model = torch.nn.Sequential(Linear(200, 300), ReLU(), Dropout(0.5), Linear(300, 200))
    thin(model, **options)
    return keyed(model, 1, calls="count")


def backward(model, x):
    model.zero_grad()
    model(x).square().sum().backward()
    return model[0].weight.grad


X = torch.linspace(-1, 1, 1000).reshape(5, 200)


@pytest.mark.parametrize("groups", [1, 2])
def test_sparse_gradients_are_the_dense_ones(groups):
    one, other = wide(groups=groups), wide(groups=groups, sparse=True)
    dense, sparse = backward(one, X), backward(other, X)
    assert sparse.is_sparse
    assert not one[3].weight.grad.is_sparse
    assert torch.allclose(sparse.to_dense(), dense, rtol=0, atol=1e-5)  # one group: the same bits
    assert groups > 1 or torch.equal(sparse.to_dense(), dense)
    sparse.coalesce().check_invariants = True
    assert groups > 1 or sparse.coalesce().indices().shape[1] < 300


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_sgd_with_sparse_gradients_is_sgd(options):
    one, other = wide(), wide(sparse=True)
    for model in (one, other):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, **options)
        for _ in range(4):
            backward(model, X)
            optimizer.step()
    assert all(map(torch.allclose, one.parameters(), other.parameters()))


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.AdamW(weights),
        lambda weights: torch.optim.SGD(weights, lr=0.1, weight_decay=0.1),
    ],
)
def test_optimizers_to_which_other_rows_matter_refuse(make):
    model = wide(sparse=True)
    optimizer = make(model.parameters())
    backward(model, X)
    with pytest.raises(RuntimeError):
        optimizer.step()


def test_sparse_gradients_of_channels():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Conv1d(3, 8, 3), torch.nn.Dropout1d(0.5), torch.nn.Conv1d(8, 2, 1))
    thin(model.double(), sparse=True)
    keyed(model, 1)
    x = torch.randn(4, 3, 9, dtype=torch.float64)
    thinned_step, masked_step = step(model, x), step(model, x, masks=True)
    assert thinned_step["0.weight"].is_sparse
    thinned_step["0.weight"] = thinned_step["0.weight"].to_dense()
    assert close(thinned_step, masked_step)


def test_second_derivatives_are_dense():
    model, x = made("units", 0.5)
    for module in model:
        vars(module)["sparse_rows"] = True
    weight = model[1].weight

    def second():
        (grad,) = torch.autograd.grad(model(x).square().sum(), weight, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), weight)[0].to_dense()

    thinly = second()
    with masked():
        assert torch.allclose(thinly, second())
