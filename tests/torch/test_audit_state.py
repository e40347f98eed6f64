"""What an audit puts back, of models that change themselves in every way that people write."""

import collections
import contextlib
import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thinned.torch import audit

X = torch.linspace(-1, 1, 512).reshape(64, 8)


class Net(nn.Module):
    """A linear layer, and whatever a case does to it."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.linear = nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(()))
        self.seen, self.history, self.tally = 0, [], collections.OrderedDict()
        self.own = torch.Generator()
        self.numpy, self.python = np.random.default_rng(3), random.Random(3)

    def forward(self, x):
        x = self.linear(x)
        self.act(self)
        return x


def fails(model):
    np.random.rand()  # noqa: NPY002 - the global generator is meant, here and below
    model.linear.weight.data.add_(1)
    model.history.append(1)
    raise ValueError("boom")


def fails_in_training(model):
    if model.training:
        fails(model)


ACTS = {
    "a buffer in place": lambda model: model.count.add_(1),
    "another buffer": lambda model: setattr(model, "count", model.count + 1),
    "a buffer of another shape": lambda model: setattr(model, "count", torch.zeros(model.count.numel() + 1)),
    "an attribute": lambda model: setattr(model, "seen", model.seen + 1),
    "a new attribute": lambda model: setattr(model, "cache", torch.ones(3)),
    "a list": lambda model: model.history.append(1),
    "a mapping": lambda model: model.tally.update(n=1),
    "a new module": lambda model: setattr(model, "late", nn.Dropout(0.5)),
    "modes": lambda model: model.linear.train(not model.linear.training),
    "NumPy's generator": lambda model: np.random.rand(3),  # noqa: NPY002
    "Python's generator": lambda model: random.random(),
    "torch's generator": lambda model: torch.rand(3),
    "own generators": lambda model: (
        torch.rand(3, generator=model.own),
        model.numpy.random(),
        model.python.random(),
    ),
    "a failure": fails,
    "a failure in training": fails_in_training,
}


def state(model):
    """Everything that an audit may touch, as plain values."""
    return {
        "tensors": {name: value.tolist() for name, value in model.state_dict().items()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": sorted(vars(model)),
        "held": (model.seen, list(model.history), dict(model.tally), id(model.count)),
        "gradient": model.linear.weight.grad.tolist(),
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "NumPy": str(np.random.get_state()[1:3]),  # noqa: NPY002
        "Python": random.getstate(),
        "own": (model.own.get_state().tolist(), model.numpy.bit_generator.state, model.python.getstate()),
    }


@pytest.mark.parametrize("name", ACTS)
def test_what_a_model_does_to_itself_is_put_back(name):
    model = Net(ACTS[name])
    model.linear.weight.grad = torch.ones(8, 8)
    model.linear.eval()
    before = state(model)
    fault = pytest.raises(ValueError, match="boom") if "failure" in name else contextlib.nullcontext()
    with fault:
        audit(model, X, repeats=2)
    assert state(model) == before


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    name: str = "net"


@pytest.mark.parametrize(
    "wrap",
    [Output, lambda y: [Output(y)], lambda y: {"a": (y, None)}, lambda y: collections.UserDict(a=y)],
    ids=["dataclass", "dataclasses in a list", "mapping", "a mapping of one's own"],
)
def test_outputs_are_found_in_what_a_model_returns(wrap):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

        def forward(self, *, x, more=None):
            return wrap(self.drop(self.head(x)))

    result = audit(Dropped(), x=X, more={"a": X}, repeats=2)
    assert [one.code for one in result.findings] == ["THN409"]


@pytest.mark.parametrize(
    "wrap",
    [lambda net: torch.compile(net, backend="eager"), nn.DataParallel],
    ids=["compiled", "in parallel"],
)
def test_a_model_in_a_wrapper_is_seen_through(wrap):
    class Always(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(F.dropout(x, 0.5))

    assert [one.code for one in audit(wrap(Always()), X, repeats=2).findings] == ["THN401"]
    assert audit(wrap(nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 8))), X, repeats=2).findings == []


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "healthy",
    [
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Dropout(0.5)),
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.ReLU()),
        lambda: torch.jit.script(nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 8))),
    ],
    ids=["weight norm", "spectral norm", "script"],
)
def test_modules_of_other_kinds_are_left_as_they_were(healthy):
    model = nn.Sequential(healthy(), nn.Linear(8, 8)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert audit(model, X, repeats=2).findings == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5)), "without a shape yet, '0.weight'"),
        (nn.Linear(8, 8, device="meta"), "device meta, such as 'weight'"),
    ],
)
def test_a_model_without_values_is_refused_in_words(model, words):
    with pytest.raises(ValueError, match=words):
        audit(model, X)
