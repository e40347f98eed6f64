"""Ways to use gradients whose memory serves again: each finds the numbers that masks give.

`test_memory` holds when it serves again; here is what would be silently wrong otherwise.
"""

import copy

import pytest
import torch
from thin_wide import backward, loss, wide

from thinned.torch import masked

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


def adding_up(model):
    for step in range(6):
        loss(model).backward()
        if step % 2:
            model.zero_grad(set_to_none=False)
            loss(model).backward()
    return [one.grad for one in model.parameters()]


def a_graph_twice(model):
    found = []
    for _ in range(3):
        value = loss(model)
        value.backward(retain_graph=True)
        found += [one.grad for one in model.parameters()]
        if _ == 1:
            model.zero_grad()
        value.backward()
    return found


def asked_for(model):
    found = []
    for _ in range(3):
        value = loss(model)
        found += torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        found += torch.autograd.grad(value, list(model.parameters()))
    return found


def stored_by_hooks(model):
    found = [[] for _ in model.parameters()]
    for one, grads in zip(model.parameters(), found, strict=True):
        one.register_hook(lambda grad, grads=grads: grads.append(grad.T if grad.dim() > 1 else grad))
    for _ in range(4):
        backward(model)
    return [grad for grads in found for grad in grads]


def stepped_in_hooks(model):
    def step(weight):
        weight.data.sub_(weight.grad, alpha=0.01)
        weight.grad = None

    for one in model.parameters():
        one.register_post_accumulate_grad_hook(step)
    for _ in range(4):
        loss(model).backward()
    return list(model.parameters())


def momentum_that_is_the_first_gradient(model):
    states = {}
    for _ in range(5):
        backward(model)
        for one in model.parameters():
            if one in states:
                states[one].mul_(0.9).add_(one.grad)
            else:
                states[one] = one.grad.detach()
            one.data.sub_(states[one], alpha=0.01)
    return [*model.parameters(), *states.values()]


def differences(model):
    before, found = None, []
    for _ in range(5):
        backward(model)
        now = [one.grad for one in model.parameters()]
        found += [] if before is None else [a - b for a, b in zip(now, before, strict=True)]
        before = now
    return found


def scaled(model):
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(5):
        optimizer.zero_grad(set_to_none=step != 2)
        scaler.scale(loss(model)).backward()
        if step == 3:
            model[0].weight.grad[0, 0] = torch.inf
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return list(model.parameters())


def exchanged(model):
    """A gradient becomes another weight's."""
    found = []
    for _ in range(4):
        backward(model)
        first, last = model[0].weight, model[3].weight
        first.grad, last.grad = last.grad.view(60, 30), first.grad.view(30, 60)
        loss(model).backward()
        found += [first.grad, last.grad]
    return found


def copied_between(model):
    for _ in range(2):
        backward(model)
    other = copy.deepcopy(model)
    found = []
    for one in (model, other, model):
        for _ in range(2):
            loss(one).backward()
        found += [weight.grad for weight in one.parameters()]
    return found


def of_weights_and_gradients(model):
    """A graph that holds the gradients, derived after the next step."""
    backward(model)
    value = sum((one * one.grad).sum() for one in model.parameters())
    held = [one.grad for one in model.parameters()]
    backward(model)
    return [*torch.autograd.grad(value, list(model.parameters())), *held]


WAYS = [
    *(adding_up, a_graph_twice, asked_for, stored_by_hooks, stepped_in_hooks, differences, scaled),
    *(momentum_that_is_the_first_gradient, exchanged, copied_between, of_weights_and_gradients),
]


def optimized(kind, options):
    def way(model):
        optimizer = kind([model[0].weight, model[3].weight], lr=0.01, **options)

        def closure():
            backward(model)
            return loss(model)

        for _ in range(4):
            optimizer.step(closure)
        return list(model.parameters())

    return way


def flags(kind):
    """Each optimizer of torch, and its ways to update."""
    if kind.__name__ in ("Optimizer", "SparseAdam"):
        return []
    names = set(kind.__init__.__code__.co_varnames)
    ways = [{}] + [{name: True} for name in ("foreach", "fused", "nesterov", "amsgrad") if name in names]
    return [{**way, "momentum": 0.9} if "momentum" in names else way for way in ways]


OPTIMIZERS = {
    f"{name} {' '.join(options)}": optimized(kind, options)
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type)
    for options in flags(kind)
}


@pytest.mark.parametrize("way", [*WAYS, *OPTIMIZERS.values()], ids=[*(w.__name__ for w in WAYS), *OPTIMIZERS])
def test_a_way_to_use_gradients_finds_those_of_masks(way):
    found = way(wide())
    with masked():
        expected = way(wide())
    assert len(found) == len(expected)
    assert all(torch.allclose(a, b, rtol=1e-7, atol=1e-9) for a, b in zip(found, expected, strict=True))
