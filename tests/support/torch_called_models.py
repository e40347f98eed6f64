"""Models that are called more than once a step."""

import torch

from thinned.torch import nn

X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))


def sequence():
    return torch.nn.Sequential(torch.nn.Linear(16, 16), nn.Dropout(0.5))
