"""The memory of a weight's gradient serves again, and never while somebody can see the gradient."""

import contextlib
import copy
import ctypes
import gc
import sys
import threading
import weakref

import pytest
import torch
from torch.nn import Dropout, Linear, ReLU

from thinned.torch import keyed, masked, thin
from thinned.torch._thin import _spare

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
X = torch.linspace(-1, 1, 600, dtype=torch.float64).reshape(20, 30)


def wide():
    torch.manual_seed(2)
    model = torch.nn.Sequential(Linear(30, 60), ReLU(), Dropout(0.5), Linear(60, 30)).double()
    thin(model)
    return keyed(model, 1, calls="count")


def loss(model):
    return model(X).square().sum()


def backward(model):
    model.zero_grad()
    loss(model).backward()
    return model[0].weight.grad


def kept_by(weight):
    return vars(weight)[_spare._NAME]


def test_a_gradients_memory_serves_again():
    model = wide()
    first = backward(model).data_ptr()
    assert backward(model).data_ptr() == first


def with_data(grad):
    other = torch.empty(0, dtype=grad.dtype)
    other.data = grad
    return other


HOLD = {
    "the gradient": lambda g: g,
    "a part": lambda g: g[3:4],
    "its storage": lambda g: g.untyped_storage(),
    "a part of its storage": lambda g: g.untyped_storage()[64:128],
    "an array": lambda g: g.numpy(),
    "a tensor of its array": lambda g: torch.from_numpy(g.numpy()),
    "a buffer": lambda g: memoryview(g.numpy()),
    "a capsule": lambda g: torch.utils.dlpack.to_dlpack(g),
    "detached": lambda g: g.detach(),
    "another type's view": lambda g: g.view(torch.int64),
    "another tensor's data": with_data,
    "another tensor's memory": lambda g: torch.empty(0, dtype=g.dtype).set_(g),
    "a weight": lambda g: torch.nn.Parameter(g),
    "what a graph saved": lambda g: torch.ones_like(g).requires_grad_() * g,
    "another process may read it": lambda g: g.share_memory_(),
}


@pytest.mark.parametrize("hold", HOLD.values(), ids=HOLD)
def test_a_gradient_that_somebody_holds_is_not_written(hold):
    model = wide()
    grad = backward(model)
    held = hold(grad)
    address, size = grad.data_ptr(), grad.nbytes
    expected = ctypes.string_at(address, size)
    del grad
    for _ in range(3):
        assert backward(model).data_ptr() != address
        assert ctypes.string_at(address, size) == expected
    del held


def test_what_was_written_into_a_gradient_is_not_there_in_the_next():
    one, other = wide(), wide()
    backward(one).data.fill_(7)
    backward(other)
    assert torch.equal(backward(one), backward(other))


def test_steps_that_add_up_and_shared_weights():
    model = torch.nn.Sequential(Linear(30, 30), ReLU(), Dropout(0.5), Linear(30, 30)).double()
    model[3].weight = model[0].weight
    thin(model)
    keyed(model, 1, calls="count")
    other = copy.deepcopy(model)
    for _ in range(3):
        loss(model).backward()
        with masked():
            loss(other).backward()
    assert torch.allclose(model[0].weight.grad, other[0].weight.grad, rtol=1e-10)


def test_where_gradients_add_up_a_weight_keeps_no_second_one():
    model = wide()
    address = backward(model).data_ptr()
    for _ in range(2):
        model.zero_grad(set_to_none=False)
        loss(model).backward()
        assert model[0].weight.grad.data_ptr() == address
        assert kept_by(model[0].weight)._tensor.data_ptr() == address


def test_a_gradients_memory_goes_with_its_weight():
    model = wide()
    backward(model)
    kept = [weakref.ref(kept_by(model[k].weight)) for k in (0, 3)]
    del model
    gc.collect()
    assert not any(one() for one in kept)


def test_a_backward_pass_in_inference_mode_leaves_no_memory_behind():
    model, other = wide(), wide()
    value = loss(model)
    with torch.inference_mode():
        value.backward()
    backward(other)
    assert torch.equal(backward(model), backward(other))


@pytest.mark.parametrize("size", [(3, 30), (60, 7), (90, 40)])
def test_a_weight_that_changes_between_the_passes_is_not_written_beside(size):
    """What was kept refers to the weight of the forward pass, and so does the gradient's memory."""
    for layer in (0, 3):
        model = wide()
        value = loss(model)
        weight = model[layer].weight
        before = weight.shape
        weight.data = torch.zeros(size, dtype=torch.float64)
        with contextlib.suppress(RuntimeError):  # of torch, for some sizes
            value.backward()
        if weight.grad is not None:
            assert weight.grad.untyped_storage().nbytes() >= before.numel() * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_of_another_type_has_memory_of_that(dtype):
    model = wide()
    backward(model)
    model.to(dtype)
    value = model(X.to(dtype)).square().sum()
    value.backward()
    assert model[0].weight.grad.dtype == dtype


@pytest.mark.parametrize("copied", [False, True])
def test_of_two_threads_one_has_the_memory(copied):
    """The other runs between any two instructions of the first, as Python may switch there."""
    model = wide()
    backward(model)
    model.zero_grad()
    weight = model[0].weight
    other = copy.copy(weight) if copied else weight  # a copy has its attributes
    kept = kept_by(weight)._tensor.data_ptr()
    instructions, ran = 0, True
    while ran:
        addresses = _interrupted(weight, other, instructions)
        assert addresses.count(kept) == 1, instructions
        instructions, ran = instructions + 1, len(addresses) == 2
    assert instructions > 50


def _interrupted(weight, other, left):
    """Which memory a thread is given, and which another one after some instructions of the first."""
    found = []

    def run():
        found.append(_spare.memory_for(other, (60, 30), other.dtype))

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != _spare.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found.append(_spare.memory_for(weight, (60, 30), weight.dtype))
    finally:
        sys.settrace(before)
    addresses = [one.data_ptr() for one in found]
    found.clear()  # the memory is free again
    return addresses


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
