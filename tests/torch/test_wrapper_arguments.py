"""DropoutWrapper: seeds, rates, what it is given and what it refuses; copies and graphs."""

import copy
import math
import pickle

import pytest
import torch
import torch._dynamo.testing
from torch_wrapped_cells import CELLS, KEEPS, B, F, H, T, a_state, each_kind, flat, masked, same

from thinned import Key
from thinned.torch import keyed, set_step
from thinned.torch.nn import DropoutWrapper
from thinned.torch.schedules import Linear


def test_seed_is_a_key_until_another_is_given():
    x = torch.ones(B, F)
    wrapper = DropoutWrapper(torch.nn.GRUCell(F, H), 0.5, seed=7)
    first = wrapper(x)[0]
    assert torch.equal(first, wrapper.cell(masked(x, 0.5, Key(7).fold(0).fold("input"), False)))
    assert torch.equal(first, wrapper(x)[0])
    assert not torch.equal(first, set_step(wrapper, 1)(x)[0])
    keyed(wrapper, 7)
    expected = masked(x, 0.5, Key(7).fold("").fold(0).fold("input"), False)
    assert torch.equal(wrapper(x)[0], wrapper.cell(expected))
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\)"):
        DropoutWrapper(wrapper.cell, seed=-1)


@each_kind
def test_evaluation_and_keeping_all_are_the_cell(kind):
    cell, x, state = CELLS[kind](F, H), torch.randn(B, F), a_state(kind)
    expected = cell(x, state)
    rng = torch.get_rng_state()
    for wrapper in (DropoutWrapper(cell), DropoutWrapper(cell, **KEEPS).eval()):
        output, new = wrapper(x, state)
        assert same(new, expected)
        assert torch.equal(output, flat(expected)[0])
        wrapper.unroll(x[None])
    assert torch.equal(rng, torch.get_rng_state())


def test_keeping_nothing_is_zero():
    wrapper = DropoutWrapper(torch.nn.GRUCell(F, H), output_keep_prob=0.0, state_keep_prob=0)
    output, state = wrapper(torch.full((B, F), math.nan))
    for x in (output, state):
        assert not x.detach().view(torch.int32).any()


@pytest.mark.parametrize("variational", [False, True])
def test_one_sample_without_a_batch(variational):
    wrapper = keyed(
        DropoutWrapper(torch.nn.GRUCell(F, H), output_keep_prob=0.5, variational_recurrent=variational), 1
    )
    x = torch.randn(T, F)
    y, state = wrapper.unroll(x, batch_first=True)
    expected, _ = wrapper.unroll(x[:, None])
    assert y.shape == (T, H)
    assert state.shape == (H,)
    assert torch.equal(y == 0, expected[:, 0] == 0)


def test_schedules_and_tensors_are_probabilities_to_keep():
    cell, x = torch.nn.GRUCell(F, H), torch.ones(B, F)
    made = [DropoutWrapper(cell, keep) for keep in (0.75, Linear(1.0, 0.5, 10), torch.tensor(0.75))]
    outputs = [set_step(keyed(wrapper, 1), 5)(x)[0] for wrapper in made]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_input_size_and_dtype_are_checked_if_given():
    cell = torch.nn.GRUCell(F, H)
    for size in (F, (F,), torch.Size([F])):
        DropoutWrapper(cell, input_size=size, dtype=torch.float32)(torch.ones(B, F))
    with pytest.raises(ValueError, match=r"input must be of input_size \(7,\), as given, got shape \(3, 5\)"):
        DropoutWrapper(cell, input_size=7)(torch.ones(B, F))
    with pytest.raises(
        TypeError, match=r"input must be of dtype torch\.float64, as given, got torch\.float32"
    ):
        DropoutWrapper(cell, dtype=torch.float64).eval()(torch.ones(B, F))
    with pytest.raises(TypeError, match="input_size must be an integer or a shape"):
        DropoutWrapper(cell, input_size=2.5)
    with pytest.raises(TypeError, match=r"dtype must be a torch\.dtype"):
        DropoutWrapper(cell, dtype="float32")


def test_other_arguments_are_checked():
    cell = torch.nn.GRUCell(F, H)
    with pytest.raises(TypeError, match=r"cell must be a torch\.nn\.Module"):
        DropoutWrapper("cell")
    with pytest.raises(TypeError, match="variational_recurrent must be True or False"):
        DropoutWrapper(cell, variational_recurrent=1)
    with pytest.raises(TypeError, match="dropout_state_filter_visitor must be a function"):
        DropoutWrapper(cell, dropout_state_filter_visitor=True)
    with pytest.raises(TypeError, match="cell must return its state, a tensor, or a pair"):
        DropoutWrapper(Three())(torch.ones(B, F))
    with pytest.raises(ValueError, match="with at least one time"):
        DropoutWrapper(cell).unroll(torch.ones(0, B, F))


class Three(torch.nn.Module):
    def forward(self, input, state):
        return input, input, input


def test_copies_and_names():
    wrapper = keyed(DropoutWrapper(torch.nn.LSTMCell(F, H), 0.5, variational_recurrent=True), 1)
    x = torch.randn(T, B, F)
    expected = wrapper.unroll(x)[0]
    for other in (copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        assert torch.equal(other.unroll(x)[0], expected)
    assert list(wrapper.state_dict()) == [f"cell.{name}" for name in wrapper.cell.state_dict()]
    assert "input_keep_prob=0.5, variational_recurrent=True" in repr(wrapper)


# What is given is a key, and what is variational which key is folded: either is in eager code's tests.
@pytest.mark.parametrize("given", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("variational", [True, pytest.param(False, marks=pytest.mark.full)])
def test_one_graph_serves_all_steps(variational, given):
    torch._dynamo.reset()
    wrapper = DropoutWrapper(torch.nn.LSTMCell(F, H), **KEEPS, variational_recurrent=variational)
    if given:
        keyed(wrapper, 1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x: wrapper.unroll(x)[0], backend=counter, fullgraph=True)
    x, seen = torch.randn(3, B, F, requires_grad=True), []
    for n in range(3):
        if given:
            set_step(wrapper, n)
        y = compiled(x)
        (grad,) = torch.autograd.grad(y.square().sum(), x)
        zeros = y == 0
        assert bool((zeros == zeros[0, 0]).all()) == variational
        if given:
            eager = wrapper.unroll(x)[0]
            (expected,) = torch.autograd.grad(eager.square().sum(), x)
            for a, b in ((y, eager), (grad, expected)):
                assert torch.equal(a == 0, b == 0)
                assert torch.allclose(a, b, 1e-5, 1e-6)
        seen.append(tuple(zeros.flatten().tolist()))
    assert len(set(seen)) == 3
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", KEEPS)
def test_a_rate_that_is_set_later_is_checked_in_the_call(name):
    wrapper = DropoutWrapper(torch.nn.GRUCell(F, H)).eval()
    setattr(wrapper, name, 2.0)
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got 2.0"):
        wrapper(torch.ones(B, F))
