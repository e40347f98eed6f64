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
from thin_wide import X, backward, loss, wide
from torch.nn import Dropout, Linear, ReLU

from thinned.torch import keyed, masked, thin
from thinned.torch._thin import _spare

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


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
