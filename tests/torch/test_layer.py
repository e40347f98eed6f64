"""LayerDrop: what is dropped is not run, by the contract's mask; and DropHead's masks."""

import pytest
import torch

import thinned
from thinned.torch import functional, keyed, masked, nn, set_step


class Counts(torch.nn.Module):
    """A layer that counts its runs."""

    def __init__(self, number):
        super().__init__()
        self.linear, self.number, self.runs = torch.nn.Linear(4, 4), number, 0

    def forward(self, x, scale=1.0, *, bias=0.0):
        self.runs += 1
        return x + scale * torch.tanh(self.linear(x)) + bias


def stack(p=0.5, size=8):
    torch.manual_seed(1)
    return keyed(nn.LayerDrop([Counts(n) for n in range(size)], p), 1)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropped_layers_are_not_run(p):
    model, x = stack(p), torch.randn(3, 4)
    kept = thinned.keep_mask(8, p, key=thinned.Key(1).fold("").fold(0))
    y = model(x, 0.5, bias=0.1)
    assert [layer.runs for layer in model] == kept.astype(int).tolist()
    expected = x
    for keep, layer in zip(kept, model, strict=True):
        expected = layer(expected, 0.5, bias=0.1) if keep else expected
    assert torch.equal(y, expected)
    with masked():
        assert torch.equal(model(x, 0.5, bias=0.1), y)
    assert all(layer.runs >= 1 for layer in model)


def test_evaluation_runs_all():
    model, x = stack().eval(), torch.randn(3, 4)
    model(x)
    assert [layer.runs for layer in model] == [1] * 8


def test_gradients_are_those_of_what_ran():
    model, x = stack(), torch.randn(3, 4)
    model(x).sum().backward()
    ran = [layer.runs for layer in model]
    found = [layer.linear.weight.grad for layer in model]
    assert [grad is not None for grad in found] == [bool(one) for one in ran]
    model.zero_grad()
    with masked():
        model(x).sum().backward()
    for one, layer in zip(found, model, strict=True):
        grad = layer.linear.weight.grad
        assert torch.equal(grad, torch.zeros(4, 4) if one is None else one)


def test_steps_differ_and_a_rate_for_each_layer():
    model, x = stack(), torch.randn(3, 4)
    assert not torch.equal(model(x), set_step(model, 1)(x))
    model = stack(torch.tensor([0.0, 1.0] * 4))
    model(x)
    assert [layer.runs for layer in model] == [1, 0] * 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_and_transformed_code_chooses_among_all():
    model, x = stack(), torch.randn(3, 4)
    expected = model(x)
    call = torch.func.vmap(lambda x: model(x[None])[0], randomness="same")
    assert torch.allclose(call(x), expected)
    torch.compiler.reset()
    assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(x), expected)


def test_a_stack_that_changes_shapes_is_refused_where_all_run():
    with masked(), pytest.raises(ValueError, match=r"a dropped layer gives its input, of shape \(2, 4\)"):
        functional.layer_drop(torch.ones(2, 4), [torch.nn.Linear(4, 3)], 0.5, training=True)


@pytest.mark.parametrize(("dim", "shared"), [(1, False), (1, True), (2, False), (-2, True)])
def test_a_heads_mask_is_that_of_its_noise_shape(dim, shared):
    x = torch.ones(3, 4, 5, 6)
    noise = [1, 1, 1, 1]
    noise[dim] = None
    noise[0] = 1 if shared else None
    got = functional.drop_head(x, 0.4, True, dim, shared, key=thinned.Key(3))
    assert torch.equal(got, functional.dropout(x, 0.4, True, key=thinned.Key(3), noise_shape=tuple(noise)))
    assert torch.equal(nn.DropHead(0.4, dim, shared)(x, key=thinned.Key(3)), got)


@pytest.mark.parametrize("dim", [0, -3, 3])
def test_a_dimension_of_no_heads_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim={dim} is no dimension of heads in shape"):
        functional.drop_head(torch.ones(2, 3, 4), 0.5, True, dim)
