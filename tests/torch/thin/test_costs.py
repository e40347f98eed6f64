"""What a thin step needs: memory, operators where nothing is thin, and modules that are exchanged later."""

from collections import Counter

import pytest
import torch
from thin_families import FAMILIES, close, made, of_each, step
from torch.nn import Dropout, Linear, ReLU
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from thinned.torch import keyed, nn, thin, unthin

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


def network(p, width=256):
    layers = []
    for _ in range(3):
        layers += [Linear(width, width), ReLU(), Dropout(p)]
    return torch.nn.Sequential(*layers, Linear(width, 10))


def peak(model, x):
    """The most that a third step had at once, of what it took itself, and of gradients that are kept."""

    def run():
        for parameter in model.parameters():
            parameter.grad = None
        model(x).square().mean().backward()

    run()
    run()
    for parameter in model.parameters():
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    live, most = 0, 0
    for event in found.profiler.kineto_results.events():
        live += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, live)
    return most


@pytest.mark.full  # the profiler takes seconds to start
@pytest.mark.filterwarnings("ignore:.*rofil")
def test_a_step_needs_no_more_memory_than_one_without_dropout():
    torch.manual_seed(0)
    x = torch.rand(1024, 256)
    thinly = network(0.5)
    thin(thinly)
    keyed(thinly, 1)
    without, masked = peak(network(0.0), x), peak(keyed(thin_free(0.5), 1), x)
    assert peak(thinly, x) < without < masked


def thin_free(p):
    model = network(p)
    for at, module in enumerate(model):
        if isinstance(module, Dropout):
            model[at] = nn.Dropout(p)
    return model


class Operators(TorchDispatchMode):
    """Which operators ran, and how often."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators(model, x):
    with Operators() as seen:
        step(model, x)
    return seen.calls


@of_each()
def test_where_nothing_drops_the_same_operators_run(name):
    model, x = made(name, 0.5, key=None)
    for module in model.modules():
        for rate in ("p", "dropout", "input_p", "output_p", "hidden_p", "head_p", "weight_p"):
            if rate in vars(module):
                setattr(module, rate, 0.0)
    thinly = operators(model, x)
    assert thinly == operators(unthin(model), x)


@of_each()
def test_a_model_without_sites_is_left_as_it_is(name):
    model = FAMILIES[name].make(0.0)
    for parent in list(model.modules()):
        for child, module in parent.named_children():
            if type(module).__name__.startswith(("Dropout", "Drop", "Locked", "Stochastic")):
                setattr(parent, child, torch.nn.Identity())
    before = [type(module) for module in model.modules()]
    report = thin(model)
    assert not report.thinned
    assert [type(module) for module in model.modules()] == before


EXCHANGES = {
    "the map before": (0, lambda: Linear(4, 8)),
    "the map behind": (3, lambda: Linear(8, 2)),
    "the site": (2, lambda: Dropout(0.5)),
    "the function": (1, lambda: torch.nn.Tanh()),
}


@pytest.mark.parametrize("place", EXCHANGES)
def test_a_module_that_is_exchanged_later_is_masked_or_refused(place):
    """Numbers that are not the network's never come out."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(4, 8), ReLU(), Dropout(0.5), Linear(8, 2)).double()
    thin(model)
    x = torch.randn(5, 4, dtype=torch.float64)
    at, make = EXCHANGES[place]
    keyed(model, 1)
    model[at] = make().double()
    if place == "the map before":  # nothing calls the old one any more: the site masks
        assert close(step(model, x), step(model, x, masks=True))
        return
    with pytest.raises(RuntimeError, match=rf"module '{at}' of Sequential, .* unthin"):
        step(model, x)
    unthin(model)
    thin(model)
    keyed(model, 1, check=None)
    assert close(step(model, x), step(model, x, masks=True))
