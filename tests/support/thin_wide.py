"""A thin model whose gradients' memory serves again, and what tests of that memory do with it."""

import torch
from torch.nn import Dropout, Linear, ReLU

from thinned.torch import keyed, thin

# With a gradient: a first layer keeps no memory.
X = torch.linspace(-1, 1, 300, dtype=torch.float64).reshape(10, 30).requires_grad_()


def wide():
    torch.manual_seed(2)
    model = torch.nn.Sequential(Linear(30, 60), ReLU(), Dropout(0.5), Linear(60, 30)).double()
    thin(model)
    return keyed(model, 1, calls="count")


def loss(model):
    return model(X).square().sum()


def backward(model):
    model.zero_grad()
    loss(model).backward()
    return model[0].weight.grad
