"""A small task that trains: scikit-learn's digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

ROWS = 80


@pytest.fixture(scope="session")
def digits():
    x, y = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(x[:ROWS] / 16, dtype=torch.float32), torch.tensor(y[:ROWS]))
