"""Models with dropout and what their scales are: for the tests of `to_classic` and `to_inverted`."""

import copy

import torch
from torch import nn

from thinned.torch import keyed, set_step
from thinned.torch.nn import Dropout

# Factors of rounding: two products more, in sums of up to a few hundred terms of float64.
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


class Net(nn.Module):
    """Parts, and a function of them as the forward."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


class Branching(nn.Module):
    """Control flow that depends on values: torch.fx refuses."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        for part in self.children():
            x = part(x)
        return x


def lin(into=6, out=6):
    return nn.Linear(into, out)


def outputs(model, x):
    """Evaluation, and training at two steps by the same keys."""
    model = copy.deepcopy(model)
    keyed(model, seed=3)
    with torch.no_grad():
        found = [model.eval()(x.clone())]
        model.train()
        for step in (0, 1):
            found.append(set_step(model, step)(x.clone()))
    return found


def modes(model):
    return {name: m.mode for name, m in model.named_modules() if isinstance(m, Dropout)}


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


IMAGE = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
ROWS = torch.randn(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
