"""Uses that nobody planned: thin results are those of masks, or an error says what to do."""

import numpy as np
import pytest
import torch
from thin_families import Block, Gated, close, step
from torch.nn import Linear, Sequential
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.mc.torch import _thinly, predict
from thinned.torch import keyed, masked, nn, thin
from thinned.torch._thin._submatrix import take

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
attend = F.scaled_dot_product_attention


class Heads(torch.nn.Module):
    """Attention of four heads without biases, so that tokens of zeros have zeros."""

    def __init__(self, way):
        super().__init__()
        self.qkv, self.out, self.heads, self.way = Linear(8, 24, False), Linear(8, 8), nn.DropHead(0.5), way

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(self.heads(self.way(q, k, v)).transpose(1, 2).reshape(batch, tokens, width))


ELEMENTS = {
    "!=": lambda q, k, v: attend(q, k, v + 1) * (q != 0),
    "==": lambda q, k, v: attend(q, k, v).masked_fill((q == 0) & ~(k > 0), 1.0),
    "number / tensor": lambda q, k, v: attend(q, k, 1 / (3 + v)),
    "number ** tensor": lambda q, k, v: attend(q, k, 2**v),
    "abs": lambda q, k, v: attend(q, k, abs(v)),
}
BY_NAME = {
    "transpose": lambda q, k, v: (q @ k.transpose(dim0=2, dim1=3)).softmax(-1) @ v,
    "permute": lambda q, k, v: (q @ k.permute(dims=(0, 1, 3, 2))).softmax(-1) @ v,
    "softmax": lambda q, k, v: torch.softmax(input=q @ k.mT, dim=-1) @ v,
    "mul": lambda q, k, v: attend(q, k, torch.mul(input=v, other=3)),
}


@pytest.mark.parametrize("way", [*ELEMENTS.values(), *BY_NAME.values()], ids=[*ELEMENTS, *BY_NAME])
def test_python_operators_and_arguments_by_name_are_computed_of_kept_heads(way):
    torch.manual_seed(1)
    model = Heads(way).double()
    assert "Linear(8, 24) before" in thin(model).thinned["heads"]
    keyed(model, 3)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    x[:, 2] = 0
    assert close(step(model, x), step(model, x, masks=True))


OTHERS = {
    "a name that is not known": lambda q, k, v: attend(q, k, torch.cat(v.split(split_size=1, dim=-1), -1)),
    "what is no function": lambda q, k, v: attend(q, k, v.data + v),
    "another operator": lambda q, k, v: attend(q, k, v + v // 1),
}


@pytest.mark.parametrize("way", OTHERS.values(), ids=OTHERS)
def test_what_kept_heads_do_not_know_leaves_all_heads_to_be_attended(way):
    model = Heads(way).double()
    assert "all heads are attended" in thin(model).thinned["heads"]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_two_masks_of_a_layer_that_leave_nothing_together(kind):
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({"rnn": kind(3, 3, 2, hidden_p=0.5, dropout=0.5)}).double()
    thin(model)
    model.forward = lambda x: model["rnn"](x)[0]
    for seed in (0, 8, 10):  # each has a layer's kept units among those that the next one drops
        keyed(model, seed)
        x = torch.randn(4, 2, 3, dtype=torch.float64)
        assert close(step(model, x), step(model, x, masks=True))


BIASES = {"a row": (1, 9), "one number": (1,), "a scalar": ()}


@pytest.mark.parametrize("shape", BIASES.values(), ids=BIASES)
def test_smaller_networks_have_biases_of_any_shape(shape, monkeypatch):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias, self.map, self.out = torch.nn.Parameter(torch.ones(shape)), Linear(4, 9), Linear(9, 2)
            self.first, self.drop = torch.nn.Dropout(0.2), torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.out(self.drop(torch.addmm(self.bias, self.first(x), self.map.weight.t()).tanh()))

    monkeypatch.setattr(_thinly, "_ROWS", 1)
    monkeypatch.setattr(_thinly, "_PRODUCTS", 1)
    model, x = Model().double().eval(), torch.randn(3, 4, dtype=torch.float64)
    given = {"samples": 3, "key": Key(3), "keep": True, "shared": True, "outputs": "values"}
    found = predict(model, x, **given).draws
    with masked():
        assert np.allclose(found, predict(model, x, **given).draws, atol=1e-10)


def fail(*args):
    raise ArithmeticError


@pytest.mark.parametrize("way", ["evaluation", "masked"])
def test_a_pass_that_failed_half_way_leaves_its_modules_alone(way):
    model = Gated(0.5)
    thin(model)
    keyed(model, 1)
    x = torch.randn(4, 6)
    hook = model.dropout.register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        model(x)
    hook.remove()
    expected = F.linear(x, model.up.weight, model.up.bias)
    if way == "masked":
        with masked():
            assert torch.equal(model.up(x), expected)
    else:
        model.eval()
        assert torch.equal(model.up(x), expected)


def test_a_pass_that_kept_all_and_failed_does_not_scale_a_later_call():
    model = Sequential(Linear(6, 3), nn.Dropout(0.01), Linear(3, 2))
    thin(model)
    keyed(model, 1)
    hook = model[1].register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        model(torch.ones(2, 6))
    hook.remove()
    x = torch.randn(2, 3)
    with masked():
        assert torch.equal(model[2](x), F.linear(x, model[2].weight, model[2].bias))


def test_a_branch_site_by_itself_draws_anew_after_a_step():
    model = Block(0.5, nn.DropPath(0.5))
    thin(model)
    model(torch.randn(8, 3, 6))
    x = torch.ones(64, 3, 6)
    assert not torch.equal(model.path(x), model.path(x))


@pytest.mark.parametrize("again", [True, False])
def test_a_checkpoint_of_a_branch_site_alone_keeps_its_mask(again):
    """Between the forward pass and the recomputation another pass has drawn."""

    def gradients(kept):
        torch.manual_seed(7)
        model = Block(0.5, nn.DropPath(0.5)).double()
        thin(model)
        with masked():
            found = []
            for x in torch.randn(2, 64, 3, 6, dtype=torch.float64):
                inner = model.down(model.hidden(F.gelu(model.up(model.norm(x)))))
                found.append(
                    checkpoint(model.path, inner, use_reentrant=again) if kept else model.path(inner)
                )
            (found[0].sum() + 2 * found[1].sum()).backward()
        return {name: one.grad for name, one in model.named_parameters()}

    assert close(gradients(True), gradients(False))


def test_settings_that_thin_does_not_go_with_are_errors_when_they_come_later():
    table = Sequential(torch.nn.Embedding(5, 8), nn.Dropout(0.5), Linear(8, 3))
    thin(table)
    table[0].max_norm = 1.0
    with pytest.raises(RuntimeError, match=r"max_norm=1\.0.*unthin\(model\)"):
        table(torch.arange(5))
    model = Sequential(nn.LSTM(3, 4, input_p=0.5))
    thin(model)
    model[0].locked = False
    with pytest.raises(RuntimeError, match=r"locked=False.*unthin\(model\)"):
        model(torch.ones(2, 2, 3))


class Again(Heads):
    """Attention of which a part stands in a checkpoint of the kind that sees tensors alone."""

    def __init__(self, part):
        super().__init__(attend)
        self.part = part

    def forward(self, x):
        def run(part, function, *inputs):
            return (
                checkpoint(function, *inputs, use_reentrant=True) if part == self.part else function(*inputs)
            )

        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = run("site", lambda y: self.heads(y).transpose(1, 2), run("attention", self.way, q, k, v))
        return run("map", self.out, y.reshape(batch, tokens, width))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("part", ["attention", "site", "map"])
def test_a_function_that_sees_tensors_alone_loses_no_gradient_of_heads(part):
    torch.manual_seed(1)
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    model = Again(part).double()
    assert "torch.autograd.Function" in str(thin(model))
    keyed(model, 3)
    assert close(step(model, x), step(model, x, masks=True))
    model = Again(None).double()
    thin(model)
    model.part = part
    with pytest.raises(RuntimeError, match=r"torch\.autograd\.Function.*unthin\(model\)"):
        step(model, x)


@pytest.mark.parametrize("again", [True, False])
def test_a_checkpoint_keeps_its_units_though_p_has_changed(again):
    torch.manual_seed(1)
    model = Sequential(Linear(6, 20), torch.nn.ReLU(), nn.Dropout(0.5), Linear(20, 4)).double()
    thin(model)
    keyed(model, 1)
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    y = checkpoint(model, x, use_reentrant=again)
    model[2].p = 0.1
    y.sum().backward()
    assert torch.allclose(x.grad, expected)


@pytest.mark.parametrize("name", ["0", "3"])
@pytest.mark.parametrize("size", [12, 30])
def test_a_weight_of_another_size_is_an_error_and_no_memory_is_read_beside_it(name, size):
    """The kernel that gathers looks at no bounds."""
    model = Sequential(Linear(6, 20), torch.nn.ReLU(), nn.Dropout(0.5), Linear(20, 4))
    thin(model)
    keyed(model, 1)
    shape = (size, 6) if name == "0" else (4, size)
    model.get_submodule(name).weight = torch.nn.Parameter(torch.ones(shape))
    with pytest.raises(RuntimeError, match=r"unthin\(model\)"):
        model(torch.ones(2, 6))


def test_rows_that_a_weight_does_not_have_are_not_taken():
    with pytest.raises(RuntimeError, match="number 5 of 4 units"):
        take(torch.ones(4, 3), torch.tensor([1, 5]), None)
    part = take(torch.ones(4, 3, requires_grad=True), torch.tensor([1, 2]), torch.tensor([0, 2]))
    assert part.shape == (2, 2)
