"""Counted calls: numbered by forward pass and call, and the same where they are computed again."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch_called_models import X, sequence

from thinned import Key
from thinned.torch import count_steps, functional, keyed, nn, set_step


class Shared(torch.nn.Module):
    """One block, called three times; checkpointed or not, and checkpoints within checkpoints."""

    def __init__(self, reentrant=None, nested=False):
        super().__init__()
        self.linear, self.drop = torch.nn.Linear(16, 16), nn.Dropout(0.5)
        self.reentrant, self.nested = reentrant, nested

    def part(self, x):
        return self.drop(torch.relu(self.linear(x)))

    def call(self, function, x):
        if self.reentrant is None:
            return function(x)
        return checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x):
        if self.nested:
            return self.call(lambda x: self.part(self.call(self.part, self.call(self.part, x))), x)
        for _ in range(3):
            x = self.call(self.part, x)
        return x


def test_counted_calls_are_numbered_by_forward_pass_and_call():
    model = keyed(Shared(), 7, calls="count")
    seen = []
    model.drop.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    for step in (0, 5):
        set_step(model, step)
        model(X), model(X)
    numbers = [(step, passed, call) for step in (0, 5) for passed in (1, 2) for call in range(3)]
    for (step, passed, call), (input, output) in zip(numbers, seen, strict=True):
        key = Key(7).fold("drop").fold(step).fold((passed << 20) + call)
        assert torch.equal(output, functional.dropout(input, 0.5, True, key=key))


def gradients(make, steps=2, retain=False, late=False):
    torch.manual_seed(0)
    model = make()
    x = X.clone().requires_grad_()
    for step in range(steps):
        set_step(model, step)
        loss = model(x).sum() + model(x).square().sum()  # R-Drop: two passes, two masks
        if late:
            set_step(model, 99)  # the backward pass comes behind
        loss.backward(retain_graph=retain)
        if retain:
            loss.backward()
    return [x.grad, *(p.grad for p in model.parameters())]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, of nested ones
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_counted_calls_have_their_masks_again_where_they_are_recomputed(reentrant, nested, late):
    plain = gradients(lambda: keyed(Shared(None), 7, calls="count"))
    again = gradients(lambda: keyed(Shared(reentrant, nested), 7, calls="count"), late=late)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # the reentrant kind adds up in another order


def test_counted_calls_in_two_backward_passes():
    plain = gradients(lambda: keyed(Shared(None), 7, calls="count"), retain=True)
    again = gradients(lambda: keyed(Shared(False, True), 7, calls="count"), retain=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_in_checkpoints(reentrant, nested, key):
    """Keyed by `call=` of a wrapper's own, and drawn from the generator."""

    def make(kind):
        model = Shared(kind, nested)
        return keyed(model, 7) if key else model

    def run(kind):
        torch.manual_seed(3)
        model = make(kind)
        x = X.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one layer is called three times
            model(x).square().sum().backward()
        return [x.grad, *(p.grad for p in model.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(None), run(reentrant), strict=True))


class Recomputes(torch.autograd.Function):
    """What others do in place of torch's checkpoint."""

    @staticmethod
    def forward(ctx, function, x):
        ctx.function = function
        ctx.save_for_backward(x)
        with torch.no_grad():
            return function(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return None, *torch.autograd.grad(ctx.function(x), x, grad)


def test_a_recomputation_that_nobody_knows_is_an_error_where_calls_are_counted():
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="cannot tell which call is computed again"):
        Recomputes.apply(keyed(sequence(), 7, calls="count"), x).sum().backward()
    model = keyed(sequence(), 7)
    (by_hand,) = torch.autograd.grad(model(x).sum(), x)
    Recomputes.apply(set_step(model, 0), x).sum().backward()
    assert torch.equal(x.grad, by_hand)


def test_a_part_called_by_itself_counts_on():
    model = keyed(sequence(), 7, calls="count")
    outputs = [model[1](X), model[1](X)]
    model(X)
    outputs += [model[1](X), model[1](X)]
    assert not any(torch.equal(a == 0, b == 0) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_counts_alone(again):
    model = set_step(keyed(sequence(), 7, calls="count"), 3)
    model(X)
    other = again(model)
    a, b = model(X), other(X)
    assert torch.equal(a, b)
    assert not torch.equal(model(X), b)
    assert torch.equal(set_step(other, 4)(X), set_step(model, 4)(X))


def test_calls_are_counted_no_more_where_keyed_does_not_ask_for_it():
    model = keyed(keyed(sequence(), 7, calls="count"), 7)
    with torch.no_grad():
        assert torch.equal(model(X), model(X))
    assert not model._forward_pre_hooks
    keyed(keyed(model, 7, calls="count"), 7, calls="count")
    assert len(model._forward_pre_hooks) == 1
    with pytest.raises(ValueError, match='calls must be "count" or None'):
        keyed(model, 7, calls="all")


def test_dropped_weights_are_one_for_a_forward_pass():
    layer = nn.drop_connect(torch.nn.Linear(16, 4))
    model = keyed(torch.nn.Sequential(layer), 7, calls="count")
    model(X)
    first = layer.weight
    assert torch.equal(first, layer.weight)
    model(X)
    assert not torch.equal(first, layer.weight)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo asks for it after a graph break
@pytest.mark.parametrize("kind", [None, False], ids=["plain", "checkpoint"])
def test_compiled_code_counts_as_eager_code(kind):
    torch.compiler.reset()
    eager = keyed(Shared(kind), 7, calls="count")
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager")
    for step in (1, 2):
        masks = []
        for model, call in ((eager, eager), (other, compiled)):
            set_step(model, step)
            outputs = [call(X), call(X)]
            sum(y.square().sum() for y in outputs).backward()
            masks.append([y == 0 for y in outputs])
        assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True))
        assert not torch.equal(*masks[0])
        torch.testing.assert_close(eager.linear.weight.grad, other.linear.weight.grad)


def test_steps_are_counted_from_where_the_model_is():
    model = set_step(keyed(sequence(), 7), 5)
    optimizer = torch.optim.Adam(model.parameters())
    handle = count_steps(model, optimizer)
    outputs = []
    for _ in range(3):
        outputs.append(model(X) == 0)
        optimizer.step()
    assert int(model[1].step) == 8
    with torch.no_grad():
        for n, mask in enumerate(outputs):
            assert torch.equal(set_step(model, 5 + n)(X) == 0, mask)
    handle.remove()
    optimizer.step()
    assert int(model[1].step) == 7
    with pytest.raises(TypeError, match=r"optimizer must be .*Optimizer, got Linear"):
        count_steps(model, model[0])
