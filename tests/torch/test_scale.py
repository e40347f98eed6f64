"""The two conventions: one function, with its scale in the activations or in the weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_scaled_models import IMAGE, ROUNDING, ROWS, Branching, Net, lin, modes, outputs, weights

import thinned
from thinned import Key
from thinned.torch import keyed, to_classic, to_inverted
from thinned.torch.nn import Dropout, Dropout2d

# These matrices are too small for two, which wait for each other on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")

# Name: the model, an input, and for each site the weights that take its scale.
MOVED = {
    "linear": (lambda: nn.Sequential(Dropout(0.3), lin()), ROWS, {"0": ["1"]}),
    "through everything": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3), Dropout(0.3), nn.ReLU(inplace=True), nn.MaxPool2d(2), Dropout2d(0.2)),
            *(nn.LeakyReLU(), nn.AvgPool2d(3), nn.PReLU(), nn.Identity(), nn.Flatten(), lin(4)),
        ),
        IMAGE,
        {"1": ["10"]},
    ),
    "convolution": (
        lambda: nn.Sequential(Dropout(0.3), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)),
        IMAGE,
        {"0": ["1"]},
    ),
    "transposed": (lambda: nn.Sequential(Dropout(0.3), nn.ConvTranspose2d(2, 3, 2)), IMAGE, {"0": ["1"]}),
    "noise shape": (
        lambda: nn.Sequential(Dropout(0.3, noise_shape=(None, None, 1, 1)), nn.Conv2d(2, 3, 3)),
        IMAGE,
        {"0": ["1"]},
    ),
    "two in a row": (
        lambda: nn.Sequential(Dropout(0.3), nn.ReLU(), Dropout(0.6), lin()),
        ROWS,
        {"0": ["3"], "2": ["3"]},
    ),
    "p of zero": (lambda: nn.Sequential(Dropout(0.0), nn.Softmax(1)), ROWS, {"0": []}),
    "several linear maps": (
        lambda: Net(
            lambda s, x: [h := s.drop(x), s.q(h) * s.k(h).sigmoid() + s.v(h.relu())][1],
            drop=Dropout(0.3),
            q=lin(),
            k=lin(),
            v=lin(),
        ),
        ROWS,
        {"drop": ["k", "q", "v"]},
    ),
    "two calls": (
        lambda: Net(lambda s, x: s.b(s.drop(s.a(s.drop(x)).tanh())), drop=Dropout(0.3), a=lin(), b=lin()),
        ROWS,
        {"drop": ["a", "b"]},
    ),
    "one map, two calls": (
        lambda: Net(lambda s, x: s.a(s.drop(x)) - s.a(s.drop(x.sin())), drop=Dropout(0.3), a=lin()),
        ROWS,
        {"drop": ["a"]},
    ),
    "functions and methods": (
        lambda: Net(
            lambda s, x: s.a(torch.flatten(F.max_pool2d(F.relu(s.drop(x)).permute(0, 1, 3, 2), 4), 1)),
            drop=Dropout(0.3),
            a=lin(8),
        ),
        IMAGE,
        {"drop": ["a"]},
    ),
    "shape read": (
        lambda: Net(
            lambda s, x: [h := s.drop(x), s.a(h.view(h.size(0) * h.shape[1], -1))][1],
            drop=Dropout(0.3),
            a=lin(64),
        ),
        IMAGE,
        {"drop": ["a"]},
    ),
    "two names": (
        lambda: [d := Dropout(0.3), nn.Sequential(d, lin(), nn.Tanh(), d, lin())][1],
        ROWS,
        {"0": ["1", "4"], "3": ["1", "4"]},
    ),
    "in a chain in a chain": (
        lambda: Branching(
            part=nn.Sequential(lin(), nn.Sequential(nn.Tanh(), Dropout(0.3)), nn.ReLU(), lin())
        ),
        ROWS,
        {"part.1.1": ["part.3"]},
    ),
    "in place": (
        lambda: nn.Sequential(lin(), nn.ReLU(True), Dropout(0.3, inplace=True), lin()),
        ROWS,
        {"2": ["3"]},
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_moved_there_and_back(name):
    make, x, expected = MOVED[name]
    torch.manual_seed(0)
    model = make().double()
    before, wanted = weights(model), outputs(model, x)
    report = to_classic(model)
    assert report.model is model
    assert set(report.moved) == set(expected)
    for site, linear in expected.items():
        names = ", ".join(f"{one}.weight" for one in linear) or "no weight"
        assert report.moved[site].startswith(names)
        assert model.get_submodule(site).mode == "classic"
    for got, want in zip(outputs(model, x), wanted, strict=True):
        assert torch.allclose(got, want, **ROUNDING)
    sites = {site: linear for site, linear in expected.items() if site != "3" or name != "two names"}
    for key, value in weights(model).items():
        factor = 1.0
        for site, linear in sites.items():
            if key.removesuffix(".weight") in linear:
                factor *= thinned.scale(model.get_submodule(site).p)
        assert torch.allclose(value, before[key] * factor, rtol=1e-15, atol=0)
    assert to_classic(model).moved == {}
    back = to_inverted(model)
    assert set(back.moved) == set(expected)
    assert set(modes(model).values()) == {"inverted"}
    for key, value in weights(model).items():
        assert torch.allclose(value, before[key], rtol=1e-15, atol=0)


def test_p_of_a_half_goes_and_comes_to_the_bit():
    model = nn.Sequential(lin(), nn.ReLU(), Dropout(0.5), lin())
    x, before = ROWS.float(), weights(model)
    wanted = outputs(model, x)
    to_classic(model)
    assert torch.equal(model[3].weight, before["3.weight"] * 2)
    assert all(torch.equal(got, want) for got, want in zip(outputs(model, x), wanted, strict=True))
    to_inverted(model)
    assert all(torch.equal(value, before[key]) for key, value in weights(model).items())


def test_the_equation():
    """Beside plain torch: V·(m·a) + b in training, V·(q·a) + b in evaluation, with V = W/q."""
    model = nn.Sequential(Dropout(0.25), lin()).double()
    weight = model[1].weight.detach().clone()
    keyed(to_classic(model).model, seed=1)
    mask = torch.tensor(thinned.keep_mask((5, 6), 0.25, key=Key(1).fold("0").fold(0)))
    v = weight / 0.75
    assert torch.allclose(model.train()(ROWS), F.linear(ROWS * mask, v, model[1].bias), **ROUNDING)
    assert torch.allclose(model.eval()(ROWS), F.linear(ROWS * 0.75, v, model[1].bias), **ROUNDING)
    assert torch.allclose(model.eval()(ROWS), F.linear(ROWS, weight, model[1].bias), **ROUNDING)
