"""A model and data for the commands that take them: `small.py` writes `data.npz`."""

from __future__ import annotations

import numpy as np
import torch


def make() -> torch.nn.Module:
    """A small classifier with dropout."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))


if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    np.savez("data.npz", x=x, y=np.arange(40) % 3)
