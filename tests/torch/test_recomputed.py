"""What a checkpoint computes again goes by the step, the schedule and the rows of its forward pass, and
evaluations between training passes change no number of a call."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.mc.torch import predict
from thinned.torch import keyed, nn, set_rows, set_step
from thinned.torch.schedules import Linear

X = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
CALLS = (None, "count")


def build(calls=None, p=0.5):
    torch.manual_seed(0)
    layers = nn.Dropout(p), torch.nn.Linear(8, 8), nn.GaussianDropout(0.5), torch.nn.Tanh(), nn.DropPath(0.3)
    return keyed(torch.nn.Sequential(*layers), 7, calls=calls)


def gradients(model, run):
    x = X.clone().requires_grad_()
    loss = run(x).square().sum()
    set_step(model, 9)
    set_rows(model, None)
    loss.backward(retain_graph=True)
    loss.backward()
    return x.grad, model[1].weight.grad


def parts(model, call):
    """Micro-batches of a pipeline: all forward, then all backward."""

    def run(x):
        outputs = []
        for i in range(3):
            set_rows(set_step(model, 3 + i), range(4 * i, 4 * i + 4), 12)
            outputs.append(call(x[4 * i : 4 * i + 4]))
        return torch.cat(outputs)

    return run


def region(reentrant, function):
    return lambda x: checkpoint(function, x, use_reentrant=reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("p", [0.5, Linear(0.2, 0.8, 10)], ids=["number", "schedule"])
def test_a_checkpoint_goes_by_step_and_rows_of_its_forward_pass(reentrant, calls, p):
    plain, again = build(calls, p), build(calls, p)
    expected = gradients(plain, parts(plain, plain))
    got = gradients(again, parts(again, region(reentrant, again)))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("reentrant", [True, False])
def test_steps_and_rows_that_are_set_inside_a_checkpoint(reentrant):
    plain, again = build(), build()
    expected = gradients(plain, parts(plain, plain))
    got = gradients(again, region(reentrant, parts(again, again)))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore:.* has drawn the mask", "ignore:None of the inputs")
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_in_checkpoints_and_rows_that_are_set_afterwards(reentrant):
    found = []
    for way in (lambda f: f, lambda f: region(reentrant, f)):
        model, x = build(), X.clone().requires_grad_()
        output = way(lambda x, m=model, way=way: way(m)(way(m)(x)))(x)
        set_rows(set_step(model, 4), range(1, 13), 20)
        output.square().sum().backward()
        found.append(model[1].weight.grad)
    torch.testing.assert_close(*found)


def test_evaluations_between_training_passes_are_not_counted():
    model = build("count")
    expected = [model(X), model(X)]
    set_step(model, 0)
    got = []
    for _ in range(2):
        model.eval()(X)
        predict(model, X, key=Key(1), samples=2)
        got.append(model.train()(X))
        predict(model, X, key=Key(1), samples=2)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    model.eval()[0].train()
    assert not torch.equal(model(X), model(X))  # a part of it trains
