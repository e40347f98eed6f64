"""Compiled thin models: Bernoulli's masks, a fixed number of units thinned, one graph for all steps."""

import pytest
import torch
from thin_families import FAMILIES, close, made, step

import thinned
from thinned.torch import keyed, masked, nn, schedules, set_step, thin

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
]
every_family = pytest.mark.parametrize(
    "name", ["units", *(pytest.param(name, marks=pytest.mark.full) for name in FAMILIES if name != "units")]
)
every_fixed = pytest.mark.parametrize(
    "name",
    [
        "units",
        *(pytest.param(n, marks=pytest.mark.full) for n, f in FAMILIES.items() if f.fixed and n != "units"),
    ],
)


class Counting:
    """A backend that runs what it is given as it is, and keeps it."""

    def __init__(self):
        torch.compiler.reset()
        self.graphs = []

    def __call__(self, graph, example):
        self.graphs.append(graph)
        return graph

    def calls(self, name):
        return sum(name in str(node.target) for graph in self.graphs for node in graph.graph.nodes)


class Called:
    """A model's parameters, and something else that is called in its place."""

    def __init__(self, model, call):
        self.named_parameters, self.parameters, self.call = model.named_parameters, model.parameters, call

    def __call__(self, x):
        return self.call(x)


def steps(model, x, backend, numbers=range(3), whole=True):
    """Compiled steps, each compared with the model itself."""
    fast = torch.compile(model, backend=backend, fullgraph=whole)
    for number in numbers:
        set_step(model, number)
        expected = step(model, x)
        assert close(step(Called(model, fast), x), expected), number


@every_fixed
def test_a_fixed_number_is_thinned_in_one_graph(name):
    model, x = made(name, 0.5, fixed=True)
    backend = Counting()
    steps(model, x, backend)
    assert len(backend.graphs) == 1
    sites = [m for m in model.modules() if getattr(m, "fixed", False) and m.p]
    masked_sites = [site for site in sites if isinstance(site, nn.DropHead)]
    assert bool(masked_sites) == (not FAMILIES[name].static)
    assert backend.calls("keep_fixed") == len(masked_sites)
    assert backend.calls("largest") == len(sites) - len(masked_sites)
    assert bool(backend.calls("index_select")) == (len(sites) > len(masked_sites))


@pytest.mark.full
@pytest.mark.parametrize("name", ["units", "a block"])
def test_the_compilers_derivative(name):
    model, x = made(name, 0.5, fixed=True)
    torch.compiler.reset()
    steps(model, x, "aot_eager", range(2))


@pytest.mark.full
@every_family
def test_bernoullis_masks_are_computed_in_one_graph(name):
    """Shapes would change with the mask, and each would be compiled anew."""
    model, x = made(name, 0.5)
    backend = Counting()
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in model.modules())
    steps(model, x, backend, whole=not recurrent)  # torch's compiler leaves recurrent layers as they are
    if not recurrent:
        assert len(backend.graphs) == 1
        assert not backend.calls("index_select")


@pytest.mark.parametrize("name", ["units", pytest.param("a block", marks=pytest.mark.full)])
@pytest.mark.parametrize("fixed", [True, pytest.param(False, marks=pytest.mark.full)])
def test_drawn_keys_are_those_of_eager_code(fixed, name):
    model, x = made(name, 0.5, None, fixed=fixed)
    backend = Counting()
    fast = torch.compile(model, backend=backend, fullgraph=True)
    found = []
    for call in (fast, fast, model):
        torch.manual_seed(3)
        found.append(call(x))
    assert torch.allclose(found[0], found[1], atol=1e-12)
    assert torch.allclose(found[0], found[2], atol=1e-12)
    assert not torch.allclose(fast(x), found[0], atol=1e-12)
    assert len(backend.graphs) == 1


@pytest.mark.full
def test_another_number_of_units_is_another_graph():
    """A schedule's p is a tensor in a graph: there the units are masked, and one graph is enough."""
    model, x = made("units", 0.5, fixed=True)
    backend = Counting()
    for p in (0.5, 0.3, 0.2, 0.3):
        model[6].p = p
        steps(model, x, backend, range(2))
    assert 2 <= len(backend.graphs) <= 3
    model[6].p = schedules.Late(0.5, 2)
    backend = Counting()
    steps(model, x, backend, range(4))
    assert len(backend.graphs) == 1
    assert backend.calls("keep_fixed") == 1


@pytest.mark.full
def test_groups_and_the_switch_to_masks():
    model, x = made("units", 0.5, groups=3, fixed=True)
    backend = Counting()
    steps(model, x, backend, range(2))
    assert len(backend.graphs) == 1
    with masked():
        steps(model, x, backend, range(2))


@pytest.mark.full
@pytest.mark.parametrize("fixed", [False, True])
def test_a_break_within_a_chain_changes_nothing(fixed):
    model, x = made("units", 0.5, fixed=fixed)
    expected = model(x)
    forward = model[2].forward

    def breaks(x):
        torch._dynamo.graph_break()
        return forward(x)

    model[2].forward = breaks
    backend = Counting()
    fast = torch.compile(model, backend=backend)
    assert torch.allclose(fast(x), expected, atol=1e-12)
    assert torch.allclose(fast(x), model(x), atol=1e-12)
    assert len(backend.graphs) >= 2


@pytest.mark.full
def test_batches_of_any_size():
    model, x = made("a block", 0.5, fixed=True)
    backend = Counting()
    fast = torch.compile(model, backend=backend, fullgraph=True)
    for rows in (8, 5, 7, 6):
        assert torch.allclose(fast(x[:rows]), model(x[:rows]), atol=1e-12)
    assert len(backend.graphs) <= 2


@pytest.mark.full
def test_inductor():
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 256), torch.nn.ReLU(), nn.Dropout(0.5), torch.nn.Linear(256, 10)
    )
    thin(model, fixed=True)
    keyed(model, 1)
    x = torch.randn(32, 64)
    torch.compiler.reset()
    fast = torch.compile(model, fullgraph=True)
    for number in range(3):
        set_step(model, number)
        assert torch.allclose(fast(x), model(x), atol=1e-4)
        model.zero_grad()
        fast(x).square().sum().backward()
        got = model[0].weight.grad.clone()
        model.zero_grad()
        model(x).square().sum().backward()
        assert torch.allclose(got, model[0].weight.grad, atol=1e-3)
    assert thinned.torch.unthin(model)[0](x).shape == (32, 256)
