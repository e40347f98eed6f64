"""A mask that is drawn twice is told of once, and no other."""

import copy
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch_called_models import X, sequence

from thinned.torch import count_steps, keyed, nn, set_rows, set_step
from thinned.torch.schedules import Linear

# Each is trained without a word about steps or calls.
TWICE = {
    "no step is set": lambda model: [model(X), model(X)],
    "a loop over batches": lambda model: [model(x) for x in (X, X + 1)],
    "one layer twice": lambda model: model[1](model(X)),
    "an equal call number": lambda model: [model[1](model[0](X), call=3) for _ in range(2)],
}


@pytest.mark.parametrize("name", TWICE)
def test_a_mask_that_is_drawn_twice_is_told_of_once(name):
    model = keyed(sequence(), 7)
    with pytest.warns(
        UserWarning, match=r"^1 has drawn the mask of step 0 again: no step has been set since"
    ) as told:
        [TWICE[name](model) for _ in range(2)]
    assert len(told) == 1
    for remedy in ("set_step(model, n)", "count_steps(model, optimizer)", 'calls="count"', "set_rows("):
        assert remedy in str(told[0].message)
    model = set_step(keyed(sequence(), 7), 4)
    with pytest.warns(UserWarning, match="1 has drawn one mask for two calls in step 4"):
        TWICE[name](model)


def layer_of(make, size=16):
    return torch.nn.Sequential(torch.nn.Linear(16, size), make())


SITES = {
    "Dropout": lambda: layer_of(lambda: nn.Dropout(0.5)),
    "AlphaDropout": lambda: layer_of(lambda: nn.AlphaDropout(0.5)),
    "GaussianDropout": lambda: layer_of(lambda: nn.GaussianDropout(0.5)),
    "DropPath": lambda: layer_of(lambda: nn.DropPath(0.5)),
    "StochasticDepth": lambda: layer_of(lambda: nn.StochasticDepth(0.5, "row")),
    "LSTM": lambda: layer_of(lambda: nn.LSTM(16, 4, 2, dropout=0.5)),
    "DropConnectLinear": lambda: layer_of(lambda: nn.DropConnectLinear(16, 4)),
    "DropConnectLinear on plain data": lambda: torch.nn.Sequential(nn.DropConnectLinear(16, 4)),
    "drop_connect": lambda: torch.nn.Sequential(nn.drop_connect(torch.nn.Linear(16, 4))),
    "a schedule": lambda: layer_of(lambda: nn.Dropout(Linear(0.5, 0.6, 9))),
}


@pytest.mark.parametrize("name", SITES)
def test_every_layer_tells_of_training_at_one_step(name):
    model = keyed(SITES[name](), 7)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def train():
        y = model(X)
        (y[0] if isinstance(y, tuple) else y).sum().backward()
        optimizer.step()

    train()
    with pytest.warns(UserWarning, match="no step has been set"):
        train()
    handle = count_steps(keyed(model, 7), optimizer)
    for _ in range(3):
        train()
    handle.remove()


def accumulated(model):
    for part in range(2):
        set_rows(model, range(4 * part, 4 * part + 4), 8)
        model(X[4 * part : 4 * part + 4]).sum().backward()


def recomputed(reentrant, preserve=True):
    def run(model):
        y = checkpoint(
            model, X.clone().requires_grad_(), use_reentrant=reentrant, preserve_rng_state=preserve
        )
        y.sum().backward(retain_graph=True)
        y.sum().backward()

    return run


def evaluated(model):
    model.eval()
    model(X), model(X)
    model.train()


def without_gradients(model):
    with torch.no_grad():
        model(X), model(X)


def closure(model):
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    handle = count_steps(model, optimizer)

    def loss():
        optimizer.zero_grad()
        value = model(X).square().sum()
        value.backward()
        return value

    for _ in range(2):
        optimizer.step(loss)
    handle.remove()


# None of these asks for two masks and gets one.
ONCE = {
    "rows": accumulated,
    "recomputed": recomputed(False),
    "recomputed, reentrant": recomputed(True),
    "recomputed, no generator kept": recomputed(False, preserve=False),
    "two evaluations": evaluated,
    "without gradients": without_gradients,
    "a step each": lambda model: [set_step(model, n)(X).sum().backward() for n in range(3)],
    "a call each": lambda model: [model[1](model[0](X), call=n) for n in range(3)],
    "a closure of the optimizer's": closure,
    "a leaf again": lambda model: [model[1](x) for x in [X.clone().requires_grad_()] * 2],
    "a copy": lambda model: [model(X), copy.deepcopy(model)(X)],
}


@pytest.mark.parametrize("name", ONCE)
def test_what_is_no_second_mask_is_not_told_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ONCE[name](set_step(keyed(sequence(), 7), 1))


def test_layers_that_drop_nothing_and_layers_without_a_key_are_silent():
    off = keyed(torch.nn.Sequential(torch.nn.Linear(16, 16), nn.Dropout(0.0)), 7)
    free = sequence()
    for model in (off, free, keyed(sequence(), None)):
        model(X), model(X)


def test_a_weight_may_be_read_many_times_until_it_is_updated():
    layer = nn.drop_connect(torch.nn.Linear(16, 4))
    model = keyed(torch.nn.Sequential(layer), 7)
    assert torch.equal(layer.weight, layer.weight)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(2)
    with pytest.warns(UserWarning, match="no step has been set"):
        model(X)
