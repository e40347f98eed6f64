"""What cannot be counted is refused or told of."""

import contextlib
import copy

import pytest
import torch
from torch_called_models import X, sequence

from thinned.torch import keyed, nn, set_step
from thinned.torch.schedules import Late


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
