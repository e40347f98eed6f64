"""Residual branches that are dropped in the ways people write it, without any dropout of torch's."""

import torch
from mc.zoo_models import linear
from torch import nn


class DropPath(nn.Module):
    """As timm's: no dropout of torch's is called."""

    def __init__(self, p):
        super().__init__()
        self.drop_prob = p

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class FlooredDropPath(DropPath):
    """The older way: a uniform number, rounded down."""

    def forward(self, x):
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        rows = keep + torch.rand((len(x), *[1] * (x.ndim - 1)), dtype=x.dtype, device=x.device)
        return x / keep * rows.floor_()


def stochastic_depth(x, p, mode, training):
    """As torchvision's: one decision a row, or one for all."""
    if not training or p == 0.0:
        return x
    size = [len(x) if mode == "row" else 1, *[1] * (x.ndim - 1)]
    noise = torch.empty(size, dtype=x.dtype, device=x.device).bernoulli_(1 - p)
    return x * (noise.div_(1 - p) if p < 1 else noise)


class StochasticDepth(nn.Module):
    def __init__(self, p, mode="row"):
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, x):
        return stochastic_depth(x, self.p, self.mode, self.training)


class Survival(nn.Module):
    """Neither its name nor its number's betrays it."""

    def __init__(self, p):
        super().__init__()
        self.chance = 1 - p

    def forward(self, x):
        if not self.training:
            return x
        rows = torch.full((len(x), *[1] * (x.ndim - 1)), self.chance, dtype=x.dtype, device=x.device)
        return x * torch.bernoulli(rows) / self.chance


class Branches(nn.Module):
    """Residual branches, each behind a module that drops it."""

    def __init__(self, *drops):
        super().__init__()
        self.branches = nn.ModuleList(linear() for _ in drops)
        self.drops = nn.ModuleList(drops)

    def forward(self, x):
        for branch, drop in zip(self.branches, self.drops, strict=True):
            x = x + drop(branch(x).tanh())
        return x
