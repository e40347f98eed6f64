"""Key and step of a keyed model are ordinary tensors on the CPU, whatever context they are made or set in."""

import copy
from contextlib import nullcontext

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._functorch.aot_autograd import aot_module
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from thinned import Key
from thinned.torch import functional, keyed, nn, set_step
from thinned.torch.schedules import Linear

X = torch.ones(3, 40)


def build():
    return torch.nn.Sequential(torch.nn.Linear(40, 40), nn.Dropout(0.5), nn.DropPath(Linear(0.0, 0.9, 10)))


def wanted(step):
    return functional.dropout(X, 0.5, True, key=Key(7).fold("1").fold(step))


class DefaultDevice:
    def __enter__(self):
        torch.set_default_device("meta")

    def __exit__(self, *_):
        torch.set_default_device(None)


class DefaultDtype:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_):
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "no context": nullcontext,
    "meta device": lambda: torch.device("meta"),
    "default device": DefaultDevice,
    "default dtype": DefaultDtype,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "fake tensors": FakeTensorMode,
    "functional call": lambda: torch.nn.utils.stateless._reparametrize_module(torch.nn.Linear(1, 1), {}),
}


@pytest.mark.parametrize("calls", [None, "count"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_state_is_the_cpus(name, calls):
    """Keyed, set and copied inside; set and used outside, in training and in a graph."""
    plain = keyed(build(), 7, calls=calls)
    with CONTEXTS[name]():
        model = keyed(build(), 7, calls=calls)
        set_step(model, 2)
        set_step(plain, 2)
        sites = [copy.deepcopy(model[1]), model[1], plain[1]]
    for site in sites:
        tensors = (site.step, site._clock.passes, site._bits.tensor)
        assert all(type(t) is torch.Tensor and t.is_cpu and not t.is_inference() for t in tensors)
        assert int(site.step) == 2
        set_step(site, 3)
        if calls is None:
            assert torch.equal(site(X), wanted(3))
        graph = make_fx(site)(X)
        set_step(site, 4)
        if calls is None:
            assert torch.equal(graph(X), wanted(4))


def test_a_model_made_on_meta_and_filled_later():
    with torch.device("meta"):
        model = set_step(keyed(build(), 7), 3)
        assert model(torch.ones(3, 40)).is_meta
    model.to_empty(device="cpu")
    assert torch.equal(model[1](X), wanted(3))
    assert torch.equal(keyed(build(), 7).to("meta").to_empty(device="cpu")[1](X), wanted(0))
    assert model.to("meta")[1].step.is_cpu


def test_a_keyed_model_runs_in_inference_mode_and_trains_after():
    with torch.inference_mode():
        model = set_step(keyed(build(), 7), 1)
        assert torch.equal(model[1](X), wanted(1))
    set_step(model, 2)(X).sum().backward()
    compiled = torch.compile(model[1], backend="aot_eager")
    x = X.clone().requires_grad_()
    compiled(x).sum().backward()
    assert torch.equal(x.grad, wanted(2))


def test_fake_tensors_pass_with_their_gradients():
    model = keyed(build(), 7)
    with FakeTensorMode() as mode:
        fake = torch.nn.Sequential(torch.nn.Linear(40, 40), model[1], set_step(model[2], 5))
        fake(mode.from_tensor(X)).sum().backward()
        assert fake[0].weight.grad.shape == (40, 40)
    assert torch.equal(set_step(model, 5)[1](X), wanted(5))


@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
def test_a_traced_graph_reads_the_step_when_it_runs(tracing):
    model = keyed(build(), 7)[1:]
    graph = make_fx(model, tracing_mode=tracing)(X)
    for step in (1, 8):
        set_step(model, step)
        assert torch.equal(graph(X), model(X))


def test_aot_module_reads_the_step_when_it_runs():
    model = keyed(build(), 7)
    ahead = aot_module(model, fw_compiler=lambda graph, _: make_boxed_func(graph))
    for step in (1, 8):
        found = []
        for run in (ahead, model):
            set_step(model, step).zero_grad()
            y = run(X)
            y.square().sum().backward()
            found.append((y, model[0].weight.grad))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
        assert torch.equal(found[0][0] == 0, found[1][0] == 0)


def test_functional_call_draws_as_the_model():
    model = set_step(keyed(build(), 7), 3)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    assert torch.equal(torch.func.functional_call(model, weights, (X,)), model(X))


def test_copies_made_anywhere_share_one_step():
    with torch.inference_mode():
        other = copy.deepcopy(set_step(keyed(build(), 7), 3))
    assert other[1].step is other[2].step
    assert torch.equal(set_step(other, 6)[1](X), wanted(6))
