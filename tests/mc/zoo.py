"""A zoo of models in which dropout is easily missed: for each, what has to be found.

case = zoo.CASES["encoder"]
model, x = zoo.build(case)       # in evaluation, always the same weights, a few rows
case.rates                       # of its sites, in order of execution
zoo.build(case, case.alone(2))   # a model in which one probability alone is not 0
zoo.reference(model, x, 1000)    # samples of it, drawn by torch in plain training
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mc import zoo_models as m
from mc import zoo_ours, zoo_paths
from torch import nn
from torch.nn import functional as F

ROWS = 3


def rows(*size):
    return lambda: torch.randn(ROWS, *size, generator=torch.Generator().manual_seed(1))


def words():
    return torch.randint(20, (ROWS, 6), generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Case:
    """One model.

    `make` takes the probabilities `p`. `sites` says which of them each site has, in order of execution;
    all in their own order if it is not given. `named` are classes that draw without any dropout of torch's:
    their user may name them. `per_row` is False where one mask serves all rows of a batch; `keyed` says
    that the sites are thinned's own; `reads_training` that a site is reached by the module's flag alone, as
    nothing is called in evaluation.
    """

    make: Callable[..., nn.Module]
    p: tuple[float, ...]
    sites: tuple[int, ...] = ()
    input: Callable[[], torch.Tensor] = field(default=rows(m.WIDTH))
    named: tuple[type, ...] = ()
    per_row: bool = True
    keyed: bool = False
    reads_training: bool = False

    @property
    def order(self):
        """For each site, which of the probabilities it has."""
        return self.sites or tuple(range(len(self.p)))

    @property
    def rates(self):
        """Of the sites that draw, in order of execution."""
        return tuple(self.p[k] for k in self.order if self.p[k] > 0)

    @property
    def count(self):
        """How many sites draw."""
        return len(self.rates)

    def alone(self, k):
        """The probabilities with all but the one of number k at 0."""
        return tuple(p if j == k else 0.0 for j, p in enumerate(self.p))


def _sequential(*p, kind=nn.Dropout, **options):
    drops = [nn.Sequential(m.linear(), nn.Tanh(), kind(each, **options)) for each in p]
    return nn.Sequential(*drops, m.linear())


def _branches(kind, **options):
    return lambda *p: zoo_paths.Branches(*(kind(each, **options) for each in p))


def _convolutions(*p, kinds):
    drops = [
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), kind(each)) for kind, each in zip(kinds, p, strict=True)
    ]
    return nn.Sequential(*drops, nn.Flatten())


IMAGES, SEQUENCES = rows(3, 6, 6), rows(5, m.WIDTH)
ENCODER = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)

CASES: dict[str, Case] = {
    "modules": Case(_sequential, (0.2, 0.5)),
    "encoder": Case(m.Encoder, ENCODER, input=SEQUENCES),
    "decoder": Case(m.Decoder, ENCODER[:6], input=SEQUENCES),
    "attention": Case(lambda p: m.Attention(p, False), (0.3,), input=SEQUENCES),
    "attention with weights": Case(lambda p: m.Attention(p, True), (0.3,), input=SEQUENCES),
    "lstm": Case(lambda p: m.Recurrent(p, nn.LSTM, 2), (0.4,), input=words),
    "gru": Case(lambda p: m.Recurrent(p, nn.GRU, 3), (0.3,), (0, 0), words),
    "bidirectional": Case(lambda p: m.Recurrent(p, nn.LSTM, 3, True), (0.3,), (0, 0), words),
    "functional": Case(m.Functional, (0.3,)),
    "functional in place": Case(lambda p: m.Functional(p, inplace=True), (0.3,)),
    "functional alpha": Case(lambda p: m.Functional(p, F.alpha_dropout), (0.3,)),
    "guarded": Case(m.Guarded, (0.3,), reads_training=True),
    "always": Case(m.Always, (0.3,)),
    "scaled dot product": Case(m.ScaledDotProduct, (0.3, 0.2), input=SEQUENCES),
    "batch norm": Case(m.Normalised, (0.2, 0.3), input=IMAGES),
    "drop path": Case(_branches(zoo_paths.DropPath), (0.2, 0.3), named=(zoo_paths.DropPath,)),
    "floored drop path": Case(
        _branches(zoo_paths.FlooredDropPath), (0.2, 0.3), named=(zoo_paths.FlooredDropPath,)
    ),
    "stochastic depth": Case(
        _branches(zoo_paths.StochasticDepth), (0.2, 0.3), named=(zoo_paths.StochasticDepth,)
    ),
    "batch depth": Case(
        _branches(zoo_paths.StochasticDepth, mode="batch"),
        (0.3,),
        named=(zoo_paths.StochasticDepth,),
        per_row=False,
    ),
    "nameless path": Case(_branches(zoo_paths.Survival), (0.2, 0.3), named=(zoo_paths.Survival,)),
    "alpha": Case(lambda *p: _sequential(*p, kind=nn.AlphaDropout), (0.2, 0.3)),
    "feature alpha": Case(
        lambda *p: _convolutions(*p, kinds=(nn.FeatureAlphaDropout,)), (0.3,), input=IMAGES
    ),
    "channels": Case(lambda *p: _convolutions(*p, kinds=(nn.Dropout2d,) * 2), (0.2, 0.3), input=IMAGES),
    "drop rate": Case(m.Dense, (0.2, 0.3), input=IMAGES),
    "weight drop": Case(m.WeightDrop, (0.3,), per_row=False),
    "parametrized": Case(m.parametrized, (0.3,), per_row=False),
    "in place": Case(lambda *p: _sequential(*p, inplace=True), (0.2, 0.3)),
    "residual in place": Case(m.Residual, (0.3,)),
    "shared": Case(m.Shared, (0.3,), (0, 0)),
    "out of order": Case(m.OutOfOrder, (0.2, 0.5)),
    "partly off": Case(_sequential, (0.0, 0.3, 0.0)),
    "ours": Case(zoo_ours.modules, (0.1, 0.15, 0.2, 0.25, 0.3), keyed=True),
    "our channels": Case(zoo_ours.channels, (0.2, 0.3), input=IMAGES, keyed=True),
    "our lstm": Case(
        zoo_ours.recurrent, (0.2, 0.25, 0.3, 0.35), (0, 0, 1, 2, 3), words, keyed=True, per_row=False
    ),
    "our sequence": Case(zoo_ours.Sequence, (0.2, 0.25, 0.3, 0.35), input=words, keyed=True, per_row=False),
    "our weights": Case(zoo_ours.weights, (0.3,), keyed=True, per_row=False),
}

# In these there is nothing to draw, and that has to be said.
SILENT: dict[str, Case] = {
    "no site": Case(lambda: nn.Sequential(m.linear(), nn.Tanh(), m.linear()), ()),
    "all off": Case(_sequential, (0.0, 0.0)),
}


def build(case, p=None, seed=0):
    """The model in evaluation, always with the same weights, and an input for it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return case.make(*(case.p if p is None else p)).eval(), case.input()


@contextmanager
def training(model):
    """Everything draws, since everything trains but BatchNorm."""
    flags = {module: module.training for module in model.modules()}
    model.train()
    for module in flags:
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()
    try:
        yield model
    finally:
        for module, flag in flags.items():
            module.training = flag


def reference(model, x, samples, seed=0):
    """Samples as torch draws them, shape (samples, rows, …): what the spread is compared with."""
    with torch.random.fork_rng(), torch.no_grad(), training(model):
        torch.manual_seed(seed)
        return torch.stack([model(x).clone() for _ in range(samples)])
