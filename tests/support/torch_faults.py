"""Models with one fault each, by the code of the rule that finds it."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import thinned
from thinned.torch import keyed
from thinned.torch._counters import Clock


def net(forward, **attributes):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in attributes.items():
                setattr(self, name, value)

    Net.forward = forward
    return Net()


def linear():
    return nn.Linear(32, 32)


class Kept(nn.Module):
    """By hand: p is what is kept."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def mask(self, x):
        return torch.bernoulli(torch.full_like(x, self.p)) / self.p

    def forward(self, x):
        return x * self.mask(x) if self.training else x


class KeepDropout(Kept):
    pass


class UnscaledDropout(Kept):
    def mask(self, x):
        return torch.bernoulli(torch.full_like(x, 1 - self.p))


class DropPath(Kept):
    """Drops single elements, whatever its name says."""

    def mask(self, x):
        return torch.bernoulli(torch.full_like(x, 1 - self.p)) / (1 - self.p)


class BatchDropPath(Kept):
    def mask(self, x):
        return torch.bernoulli(torch.full_like(x[:1, :1], 1 - self.p)) / (1 - self.p)


class LockedDropout(DropPath):
    pass


class Zeroing(nn.Module):
    """Sets its rate to 0 in evaluation, for good."""

    def __init__(self):
        super().__init__()
        self.p = 0.5

    def forward(self, x):
        if not self.training:
            self.p = 0.0
        return F.dropout(x, self.p, self.training)


class Counting(nn.Module):
    """A gradient whose mask is drawn anew."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * torch.bernoulli(torch.full_like(x, 0.5)) * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.bernoulli(torch.full_like(grad, 0.5)) * 2

    p = 0.5

    def forward(self, x):
        return self.Function.apply(x) if self.training else x


Dropout = type("Dropout", (Counting,), {})


def stuck():
    """Part of a model that something has put into evaluation, though it is trained."""

    class Stuck(nn.Sequential):
        def train(self, mode=True):
            return super().train(False)

    return nn.Sequential(linear(), Stuck(linear(), nn.Dropout(0.5)), linear())


def one_key():
    model = nn.Sequential(thinned.torch.nn.Dropout(0.5), linear(), thinned.torch.nn.Dropout(0.5), linear())
    clock = Clock()

    def forward(self, x):
        for site in (self.model[0], self.model[2]):
            site.give_key(thinned.Key(1), clock)
        clock.set(int(clock.step) + 1)
        return self.model(x)

    return net(forward, model=model)


def counted(self, x):
    thinned.torch.set_step(self.drop, self.n)
    self.n += 1
    return self.drop(x) + self.drop(self.fc(x))


def eager(self, x):
    return checkpoint(self.inner, x, use_reentrant=False, preserve_rng_state=False)


def moving(self, x):
    mode = self.norm.training
    y = self.norm.train()(x)
    self.norm.train(mode)
    return self.drop(y)


ROWS = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(16, 12, 32, generator=torch.Generator().manual_seed(0))

FAULTS = {
    "THN401": lambda: (net(lambda self, x: self.fc(F.dropout(x, 0.5)), fc=linear()), ROWS),
    "THN401 in attention": lambda: (
        net(lambda self, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)),
        SEQUENCE,
    ),
    "THN401 by hand": lambda: (net(lambda self, x: x * torch.rand_like(x).round()), ROWS),
    "THN401 a layer made in forward": lambda: (
        net(lambda self, x: self.fc(nn.Dropout(0.5)(x)), fc=linear()),
        ROWS,
    ),
    "THN402": lambda: (stuck(), ROWS),
    "THN402 alpha": lambda: (net(lambda self, x: self.fc(F.alpha_dropout(x, 0.5)), fc=linear()), ROWS),
    "THN403": lambda: (nn.Sequential(linear(), UnscaledDropout(0.3), linear()), ROWS),
    "THN404": lambda: (nn.Sequential(linear(), KeepDropout(0.9), linear()), ROWS),
    "THN405": lambda: (one_key(), ROWS),
    "THN406": lambda: (net(counted, drop=keyed(thinned.torch.nn.Dropout(0.5), 1), fc=linear(), n=0), ROWS),
    "THN407": lambda: (nn.Sequential(linear(), keyed(thinned.torch.nn.Dropout(0.5), 1), linear()), ROWS),
    "THN407 by a seed": lambda: (
        net(
            lambda self, x: self.fc(F.dropout(x, 0.5, torch.manual_seed(0) is not None and self.training)),
            fc=linear(),
        ),
        ROWS,
    ),
    "THN408": lambda: (nn.Sequential(linear(), DropPath(0.3), linear()), ROWS),
    "THN408 batch": lambda: (nn.Sequential(linear(), BatchDropPath(0.5), linear()), ROWS),
    "THN408 locked": lambda: (nn.Sequential(linear(), LockedDropout(0.3), linear()), SEQUENCE),
    "THN408 features last": lambda: (nn.Sequential(linear(), nn.Dropout1d(0.3), linear()), SEQUENCE),
    "THN409": lambda: (nn.Sequential(linear(), nn.ReLU(), nn.Linear(32, 5), nn.Dropout(0.5)), ROWS),
    "THN409 before a softmax": lambda: (
        nn.Sequential(linear(), nn.Linear(32, 5), nn.Dropout(0.5), nn.Softmax(1)),
        ROWS,
    ),
    "THN410": lambda: (nn.Sequential(linear(), nn.Dropout(0.5), nn.Dropout(0.5), linear()), ROWS),
    "THN411": lambda: (nn.Sequential(linear(), nn.Dropout(0.5), nn.BatchNorm1d(32), linear()), ROWS),
    "THN411 functional": lambda: (
        net(lambda self, x: self.norm(F.dropout(x + 1, 0.5, self.training)), norm=nn.BatchNorm1d(32)),
        ROWS,
    ),
    "THN412": lambda: (net(moving, norm=nn.BatchNorm1d(32), drop=nn.Dropout(0.5)), ROWS),
    "THN413": lambda: (nn.Sequential(linear(), Zeroing(), linear()), ROWS),
    "THN414": lambda: (nn.Sequential(linear(), Dropout(), linear()), ROWS),
    "THN414 in a checkpoint": lambda: (
        net(eager, inner=nn.Sequential(linear(), nn.Dropout(0.5), linear())),
        ROWS.clone().requires_grad_(),
    ),
    "THN415": lambda: (
        nn.Sequential(nn.Dropout(0.1), linear()).to(torch.bfloat16),
        torch.rand(512, 32, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) + 1,
    ),
}
