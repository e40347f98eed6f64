"""A small model, its rows, and the memory that a prediction takes: for the tests of `predict`."""

import torch

import thinned

KEY = thinned.Key(2**63 + 5, 11)


def mlp(p=0.5, q=0.3):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 16),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(p),
        torch.nn.Linear(16, 16),
        torch.nn.ReLU(),
        torch.nn.Dropout(q),
        torch.nn.Linear(16, 3),
    ).eval()


def rows(n=70):
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(1))
