"""Uses that nobody planned: thin results are those of masks, or an error says what to do."""

import numpy as np
import pytest
import torch
from thin_families import Block, Gated, close, step
from torch.autograd import forward_ad
from torch.nn import Linear, Sequential
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.mc.torch import _thinly, predict
from thinned.torch import keyed, masked, nn, thin
from thinned.torch._thin._submatrix import take

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")


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


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("size", [1, 3, 30])
def test_a_bias_of_another_size_is_an_error_and_no_memory_is_read_beside_it(layer, size):
    model = Sequential(Linear(6, 20), torch.nn.ReLU(), nn.Dropout(0.5), Linear(20, 4))
    thin(model)
    keyed(model, 1)
    model[layer].bias = torch.nn.Parameter(torch.ones(size))
    if (layer, size) == (3, 1):  # of all units: torch's own map takes it
        found = model(torch.ones(2, 6))
        with masked():
            assert torch.allclose(found, model(torch.ones(2, 6)))
    else:
        with pytest.raises(RuntimeError, match="size"):
            model(torch.ones(2, 6))


def test_rows_that_a_weight_does_not_have_are_not_taken():
    with pytest.raises(RuntimeError, match="number 5 of 4 units"):
        take(torch.ones(4, 3), torch.tensor([1, 5]), None)
    part = take(torch.ones(4, 3, requires_grad=True), torch.tensor([1, 2]), torch.tensor([0, 2]))
    assert part.shape == (2, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_forward_derivatives_of_weights():
    model = Sequential(Linear(6, 20), torch.nn.ReLU(), nn.Dropout(0.5), Linear(20, 4))
    thin(model)
    keyed(model, 1)

    def tangent():
        with forward_ad.dual_level():
            given = {n: forward_ad.make_dual(p.detach(), p.detach() + 1) for n, p in model.named_parameters()}
            y = torch.func.functional_call(model, given, (torch.ones(2, 6),))
            return forward_ad.unpack_dual(y).tangent

    found = tangent()
    with masked():
        assert torch.allclose(found, tangent(), atol=1e-5)
