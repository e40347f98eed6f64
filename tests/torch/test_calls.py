"""Calls of a keyed layer: a mask that is drawn twice is told of, and calls are counted, also where they are
computed again."""

import contextlib
import copy
import pickle
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.torch import count_steps, functional, keyed, nn, set_rows, set_step
from thinned.torch.schedules import Late, Linear

X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))


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


def sequence():
    return torch.nn.Sequential(torch.nn.Linear(16, 16), nn.Dropout(0.5))


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
    with pytest.warns(UserWarning, match=r"^1 has drawn the mask of step 0 again: nobody has set a") as told:
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
    with pytest.warns(UserWarning, match="nobody has set a step"):
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
    with pytest.warns(UserWarning, match="nobody has set a step"):
        model(X)


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


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (1.5, TypeError, "call must be an integer, got 1.5"),
        (True, TypeError, "call must be an integer, got True"),
        (torch.tensor(1.5), TypeError, "call must be an integer, got a tensor"),
        (torch.tensor([1, 2]), TypeError, "call must be an integer, got a tensor"),
        (-1, ValueError, "call must be in"),
        (2**60, ValueError, "call must be in"),
    ],
)
def test_a_call_that_is_none(call, error, words):
    for model in (keyed(sequence(), 7), sequence().eval()):
        with pytest.raises(error, match=words):
            model[1](X, call=call)


def test_a_step_that_is_none():
    with pytest.raises(ValueError, match=r"n must be one integer, got a tensor of shape \(2,\)"):
        set_step(keyed(sequence(), 7), torch.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"n must be an integer, got 1\.5"):
        set_step(keyed(sequence(), 7), torch.tensor(1.5))
    assert int(set_step(keyed(sequence(), 7), torch.tensor([3]))[1].step) == 3


def test_a_schedule_without_a_step_evaluates():
    assert nn.Dropout(Late(0.5, 3)).eval()(X) is X
    assert nn.DropPath(Late(0.5, 3)).eval()(X) is X
    nn.LSTM(16, 4, dropout=Late(0.5, 3)).eval()(X)
    with pytest.raises(RuntimeError, match="needs a step"):
        nn.Dropout(Late(0.5, 3), mode="classic").eval()(X)  # its evaluation multiplies by 1 − p
    with pytest.raises(RuntimeError, match="needs a step"):
        nn.Dropout(Late(0.5, 3))(X)


class PerSample(torch.nn.Module):
    """As Opacus' GradSampleModule does: layers are computed again, sample by sample, in the backward pass."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.found = layer, {}
        layer.register_forward_hook(self.keep)
        layer.register_full_backward_hook(self.sample)

    def keep(self, module, inputs, output):
        self.input = inputs[0].detach()

    def sample(self, module, grad_input, grad_output):
        inner = copy.deepcopy(self.layer)
        for hooks in (inner._forward_hooks, inner._backward_hooks):
            hooks.clear()

        def loss(weights, x, grad):
            return (torch.func.functional_call(inner, weights, (x[None],)) * grad[None]).sum()

        weights = {name: p.detach() for name, p in inner.named_parameters()}
        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), randomness="different")
        self.found = each(weights, self.input, grad_output[0])


WEIGHTED = {
    "DropConnectLinear": lambda: nn.DropConnectLinear(16, 4),
    "drop_connect": lambda: nn.drop_connect(torch.nn.Linear(16, 4)),
    "DropoutAddLayerNorm": lambda: nn.DropoutAddLayerNorm(16),
}


@pytest.mark.parametrize("key", [True, False], ids=["keyed", "drawn"])
@pytest.mark.parametrize("name", ["DropConnectLinear", "drop_connect"])
def test_per_sample_gradients_that_are_computed_again_are_refused(name, key):
    layer = WEIGHTED[name]()
    model = PerSample(keyed(layer, 7) if key else layer)
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="computed again for each sample in a backward pass"):
        layer(x).sum().backward()
    layer.eval().zero_grad()
    layer(x).sum().backward()
    for name, each in model.found.items():
        torch.testing.assert_close(each.sum(0), layer.get_parameter(name).grad)


def test_expanded_weights_are_refused():
    from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

    for name in ("DropConnectLinear", "drop_connect"):
        layer = keyed(WEIGHTED[name](), 7)
        with pytest.raises((RuntimeError, TypeError)):
            call_for_per_sample_grads(layer)(X)


class MicroBatches(torch.nn.Module):
    """As a pipeline does: a stage is called once for each part of a batch."""

    def __init__(self, stage, parts):
        super().__init__()
        self.stage, self.parts = stage, parts

    def forward(self, x):
        return torch.cat([self.stage(part) for part in x.chunk(self.parts)])


def test_micro_batches_are_told_of_or_counted():
    x = torch.ones(8, 16)
    silent = MicroBatches(set_step(keyed(sequence(), 7), 1), 2)
    with pytest.warns(UserWarning, match="set_rows"):
        y = silent(x)
    assert torch.equal(*(y == 0).chunk(2))
    counted = MicroBatches(keyed(sequence(), 7, calls="count"), 2)
    assert not torch.equal(*(counted(x) == 0).chunk(2))


def test_replicas_are_told_of():
    stage = set_step(keyed(sequence(), 7), 1)
    replicas = [stage._replicate_for_data_parallel() for _ in range(2)]
    for replica in replicas:
        for name, child in stage.named_children():
            copied = child._replicate_for_data_parallel()
            for weight, value in child.named_parameters(recurse=False):
                setattr(copied, weight, value.clone())
            setattr(replica, name, copied)
    replicas[0](X)
    with pytest.warns(UserWarning, match="set_rows"):
        replicas[1](X)


def test_a_pipeline_of_torchs_is_told_of(tmp_path):
    pipelining = pytest.importorskip("torch.distributed.pipelining")
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        x = torch.ones(8, 16)
        for calls, expected in (
            (None, pytest.warns(UserWarning, match="set_rows")),
            ("count", contextlib.nullcontext()),
        ):
            model = set_step(keyed(sequence(), 7, calls=calls), 1)
            stage = pipelining.PipelineStage(model, 0, 1, torch.device("cpu"))
            with expected:
                out = pipelining.ScheduleGPipe(stage, 2, loss_fn=lambda y, t: y.sum()).step(x, target=x)
            assert torch.equal(*(out == 0).chunk(2)) == (calls is None)
    finally:
        dist.destroy_process_group()
