"""A change of convention: what keeps its scale, and why."""

import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch_scaled_models import IMAGE, ROWS, Branching, Net, lin, modes, outputs

from thinned.torch import to_classic
from thinned.torch.nn import Dropout, Dropout2d
from thinned.torch.schedules import Late

# These matrices are too small for two, which wait for each other on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")


def tied():
    model = nn.Sequential(nn.Embedding(6, 6), Dropout(0.5), lin())
    model[2].weight = model[0].weight
    return model


def by_view():
    model = nn.Sequential(lin(), Dropout(0.5), lin()).double()
    model[2].weight = nn.Parameter(model[0].weight.detach().view(6, 6))
    return model


class Squared(nn.Linear):
    """A subclass that is no linear map."""

    def forward(self, x):
        return super().forward(x) ** 2


def patched():
    model = nn.Sequential(Dropout(0.5), lin())
    model[1].forward = torch.exp
    return model


class InTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.a = Dropout(0.5), lin()

    def forward(self, x):
        return self.a(self.drop(x) if self.training else x)


class Optional(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.a, self.b = Dropout(0.5), lin(), lin()

    def forward(self, x, second=None):
        h = self.drop(x)
        return self.a(h) if second is None else self.a(h) + self.b(h)


def shared_parts():
    d, linear = Dropout(0.5), lin()
    return Branching(
        one=nn.Sequential(d, lin()), two=nn.Sequential(Dropout(0.4), linear), three=d, four=linear
    )


# Name: the model, its input, and for each site why it stays.
LEFT = {
    "residual": (
        lambda: Net(lambda s, x: s.a(x + s.d(x)), d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": r"feeds add\(…\)"},
    ),
    "softmax": (lambda: nn.Sequential(Dropout(0.5), nn.Softmax(1)), ROWS, {"0": "feeds 1, a Softmax"}),
    "gelu": (lambda: nn.Sequential(Dropout(0.5), nn.GELU(), lin()), ROWS, {"0": "feeds 1, a GELU"}),
    "norm": (
        lambda: nn.Sequential(Dropout(0.5), nn.LayerNorm(6), lin()),
        ROWS,
        {"0": "feeds 1, a LayerNorm"},
    ),
    "method": (
        lambda: Net(lambda s, x: s.a(s.d(x).tanh()), d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": r"tanh\(…\)"},
    ),
    "last": (lambda: nn.Sequential(lin(), Dropout(0.5)), ROWS, {"1": "its output is one of the model's"}),
    "one bad branch": (
        lambda: Net(lambda s, x: [h := s.d(x), s.a(h) + h.exp()][1], d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": r"feeds exp\(…\)"},
    ),
    "other input": (
        lambda: Net(lambda s, x: s.a(s.d(x)) + s.a(x), d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": "a has other inputs too"},
    ),
    "weight used": (
        lambda: Net(lambda s, x: s.a(s.d(x)) @ s.a.weight, d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": "a.weight is used elsewhere too"},
    ),
    "tied": (tied, torch.tensor([1, 2, 5]), {"1": "2.weight is shared with 0.weight"}),
    "by view": (by_view, ROWS, {"1": "2.weight is shared with 0.weight"}),
    "parametrized": (
        lambda: nn.Sequential(Dropout(0.5), parametrizations.weight_norm(lin())),
        ROWS,
        {"0": "1.weight is computed from other parameters"},
    ),
    "again": (
        lambda: Net(lambda s, x: s.a(s.d(s.d(x).relu())), d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": "called again on its own output"},
    ),
    "training only": (InTraining, ROWS, {"drop": "no call of it is seen"}),
    "optional": (Optional, ROWS, {"drop": "lead from it to other places"}),
    "in place": (
        lambda: Net(
            lambda s, x: [h := s.b(x), d := s.d(h.view(-1, 6)), s.a(d) + h][2],
            d=Dropout(0.5, inplace=True),
            a=lin(),
            b=lin(),
        ),
        ROWS,
        {"d": "in place"},
    ),
    "followed in place": (
        lambda: Net(
            lambda s, x: [h := s.b(x), s.a(s.r(s.d(h))) + h][1],
            d=Dropout(0.5),
            a=lin(),
            b=lin(),
            r=nn.ReLU(inplace=True),
        ),
        ROWS,
        {"d": "in place"},
    ),
    "everything": (lambda: nn.Sequential(Dropout(1.0), lin()), ROWS, {"0": "p=1 keeps nothing"}),
    "tensor": (lambda: nn.Sequential(Dropout(torch.tensor(0.5)), lin()), ROWS, {"0": "p=0.5 is no number"}),
    "schedule": (
        lambda: nn.Sequential(Dropout(Late(0.5, 1)), lin()),
        ROWS,
        {"0": r"p=Late\(.* is no number"},
    ),
    "channels": (lambda: nn.Sequential(Dropout2d(0.5), nn.Conv2d(2, 2, 3)), IMAGE, {"0": "no classic mode"}),
    "torch's": (
        lambda: nn.Sequential(nn.Dropout(0.5), lin(), Dropout(0.0)),
        None,
        {"0": r"torch.nn's Dropout: convert\(model\) first"},
    ),
    "unused": (
        lambda: Net(lambda s, x: s.a(x), d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": "no call of it is seen"},
    ),
    "no sequential": (
        lambda: Branching(d=Dropout(0.5), a=lin()),
        ROWS,
        {"d": "in no nn.Sequential.*control flow"},
    ),
    "shared, untraced": (
        shared_parts,
        ROWS,
        {"one.0": "are one module", "three": "are one module", "two.0": "one mod"},
    ),
    "lazy": (lambda: nn.Sequential(Dropout(0.5), nn.LazyLinear(3)), None, {"0": "has no values yet"}),
    "own forward, untraced": (
        lambda: Branching(part=nn.Sequential(Dropout(0.5), Squared(6, 6))),
        ROWS,
        {"part.0": "feeds part.1, a Squared"},
    ),
    "patched": (patched, ROWS, {"0": "feeds 1, a Linear"}),
    "own forward": (
        lambda: nn.Sequential(Dropout(0.5), Squared(6, 6)),
        ROWS,
        {"0": r"feeds linear\(…\), which is neither"},
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_move_stays_as_it_was(name):
    make, x, reasons = LEFT[name]
    torch.manual_seed(0)
    model = make()
    model = model if name == "lazy" else model.double()
    before = outputs(model, x) if x is not None else []
    report = to_classic(model)
    assert set(report.left) == set(reasons), str(report)
    for site, reason in reasons.items():
        assert re.search(reason, report.left[site]), report.left[site]
    assert all(mode == "inverted" for n, mode in modes(model).items() if n in reasons)
    after = outputs(model, x) if x is not None else []
    assert all(torch.equal(got, want) for got, want in zip(after, before, strict=True))
