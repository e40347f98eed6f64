"""DropoutWrapper beside plain loops over torch's cells with NumPy's masks, laid out as TensorFlow's are."""

import copy
import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch._dynamo.testing

import thinned
from thinned import Key
from thinned.torch import keyed, set_step
from thinned.torch.nn import DropoutWrapper, ZoneoutCell
from thinned.torch.schedules import Linear

T, B, F, H = 4, 3, 5, 6
CELLS = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell, "RNN": torch.nn.RNNCell}
KEEPS = {"input_keep_prob": 0.75, "output_keep_prob": 0.5, "state_keep_prob": 0.625}


def masked(x, keep_prob, key, shared):
    """Inverted dropout by NumPy's mask, one for the whole batch if shared, written out."""
    p = 1 - keep_prob
    shape = (1, *x.shape[1:]) if shared else tuple(x.shape)
    keep = torch.from_numpy(np.broadcast_to(thinned.keep_mask(shape, p, key=key), x.shape).copy())
    return torch.where(keep, x * torch.tensor(thinned.scale(p), dtype=torch.float32), 0.0)


def reference(cell, x, state, key, keeps, variational):
    """The wrapper's definition as a loop: masks of all times, or of each."""
    lstm, outputs = isinstance(cell, torch.nn.LSTMCell), []
    for t in range(len(x)):
        now = key if variational else key.fold(t)
        new = cell(masked(x[t], keeps["input_keep_prob"], now.fold("input"), variational), state)
        h = new[0] if lstm else new
        outputs.append(masked(h, keeps["output_keep_prob"], now.fold("output"), variational))
        h = masked(h, keeps["state_keep_prob"], now.fold("state").fold(0), variational)
        state = (h, new[1]) if lstm else h
    return torch.stack(outputs), state


def flat(state):
    return [state] if isinstance(state, torch.Tensor) else list(state)


def same(a, b):
    return all(map(torch.equal, flat(a), flat(b)))


def a_state(kind):
    return tuple(torch.randn(2, B, H).unbind()) if kind == "LSTM" else torch.randn(B, H)


each_kind = pytest.mark.parametrize("kind", CELLS)
both_ways = pytest.mark.parametrize("variational", [False, True])


@each_kind
@both_ways
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_sequence_equals_the_plain_loop(kind, variational, batch_first):
    cell, x, state = CELLS[kind](F, H), torch.randn(T, B, F, requires_grad=True), a_state(kind)
    wrapper = keyed(DropoutWrapper(cell, **KEEPS, variational_recurrent=variational), 3)
    set_step(wrapper, 2)
    found = []
    got, last = wrapper.unroll(
        x.transpose(0, 1) if batch_first else x, state, batch_first=batch_first, call=5
    )
    key = Key(3).fold("").fold(2).fold(5)
    for y, end in (
        (got.transpose(0, 1) if batch_first else got, last),
        reference(cell, x, state, key, KEEPS, variational),
    ):
        (y.square().sum() + sum(s.square().sum() for s in flat(end))).backward()
        found.append([y, *flat(end), x.grad, *(w.grad for w in cell.parameters())])
        x.grad = None
        cell.zero_grad()
    assert all(map(torch.equal, *found))
    assert (got == 0).any()


@each_kind
@pytest.mark.parametrize("way", ["time", "sequence", "call"])
@both_ways
def test_a_loop_by_hand_equals_unroll(kind, way, variational):
    wrapper = keyed(DropoutWrapper(CELLS[kind](F, H), **KEEPS, variational_recurrent=variational), 3)
    x = torch.randn(T, B, F)
    expected, last = wrapper.unroll(x)
    state, outputs = None, []
    if way == "sequence":
        with wrapper.sequence():
            for t in range(T):
                y, state = wrapper(x[t], state, time=t)
                outputs.append(y)
    else:
        for t in range(T):
            # A call is another sequence: what does not vary in a sequence varies with it.
            y, state = wrapper(x[t], state, **{way: t})
            outputs.append(y)
    agree = torch.equal(torch.stack(outputs), expected) and same(state, last)
    assert agree == (not (way == "call" and variational))


@both_ways
@pytest.mark.parametrize("source", ["keyed", "seed", "drawn"])
def test_masks_are_the_same_at_all_times_iff_variational(variational, source):
    """Of the input by its gradient, of the output by its zeros, of the state by those of the last one."""
    wrapper = DropoutWrapper(
        torch.nn.GRUCell(40, 40),
        0.5,
        0.5,
        0.5,
        variational_recurrent=variational,
        seed=1 if source == "seed" else None,
    )
    if source == "keyed":
        keyed(wrapper, 1)
    x = torch.randn(T, B, 40, requires_grad=True)
    outputs, state = wrapper.unroll(x)
    outputs.sum().backward()
    for zeros in (outputs == 0, x.grad == 0):
        assert 0.2 < zeros.float().mean() < 0.8
        assert bool((zeros == zeros[:1]).all()) == variational
        assert bool((zeros == zeros[:, :1]).all()) == variational
        assert len({tuple(z.flatten().tolist()) for z in zeros}) == (1 if variational else T)
    assert not torch.equal(state == 0, outputs[-1] == 0)
    assert not torch.equal((x.grad == 0)[-1], outputs[-1] == 0)


@pytest.mark.parametrize("name", KEEPS)
def test_rates_are_those_to_keep(name):
    n, keep = 20000, 0.8
    wrapper = DropoutWrapper(Echo(), **{name: keep})
    output, state = wrapper(torch.ones(1, n), torch.ones(1, n))
    zeros = int(((state if name == "state_keep_prob" else output) == 0).sum())
    z = (zeros - n * 0.2) / math.sqrt(n * 0.2 * 0.8)
    assert abs(z) < 5, z
    assert torch.equal(output != 0, state != 0) == (name == "input_keep_prob")


class Echo(torch.nn.Module):
    """A cell whose output is its input, and whose state is what it makes of both."""

    def __init__(self, make=lambda input, state: input):
        super().__init__()
        self.make = make

    def forward(self, input, state):
        return input, self.make(input, state)


@both_ways
def test_an_lstms_c_is_untouched(variational):
    cell = torch.nn.LSTMCell(F, H)
    wrapper = keyed(DropoutWrapper(cell, state_keep_prob=0.5, variational_recurrent=variational), 1)
    x, (h, c) = torch.randn(B, F), a_state("LSTM")
    output, (new_h, new_c) = wrapper(x, (h, c), time=0)
    expected_h, expected_c = cell(x, (h, c))
    assert torch.equal(new_c, expected_c)
    assert torch.equal(output, expected_h)
    assert (new_h == 0).any()
    assert not (new_h == 0).all()
    # A cell around the cell hides neither.
    zoned = DropoutWrapper(ZoneoutCell(cell), state_keep_prob=0.5, variational_recurrent=variational)
    nested = DropoutWrapper(DropoutWrapper(cell), state_keep_prob=0.5, variational_recurrent=variational)
    for other in (zoned, nested):
        other.give_key(wrapper.key, wrapper._clock)
        y, (other_h, other_c) = other(x, (h, c), time=0)
        assert torch.equal(y, expected_h)
        assert torch.equal(other_h, new_h)
        assert torch.equal(other_c, expected_c)


class Pair(NamedTuple):
    c: torch.Tensor
    h: torch.Tensor


ONES = torch.ones(2, 50)


@pytest.mark.parametrize(
    ("state", "visitor", "dropped"),
    [
        (ONES, None, [True]),
        ((ONES, ONES), None, [True, True]),
        (Pair(ONES, ONES), None, [False, True]),
        ({"a": Pair(ONES, ONES), "b": [ONES]}, None, [False, True, True]),
        ((ONES, ONES.int(), "text"), None, [True, False, False]),
        ((ONES, ONES), lambda s: False, [False, False]),
        ((ONES, ONES), lambda s: (False, True) if isinstance(s, tuple) else True, [False, True]),
        ({"a": ONES, "b": ONES}, lambda s: {"b": True, "a": False} if isinstance(s, dict) else True, [0, 1]),
        ((ONES, (ONES, ONES)), lambda s: not isinstance(s, tuple) or len(s) == 2, [True, True, True]),
        (Pair(ONES, ONES), lambda s: True, [True, True]),
    ],
)
def test_the_visitor_says_what_of_the_state_is_dropped(state, visitor, dropped):
    cell = Echo(lambda input, old: old)
    wrapper = DropoutWrapper(cell, state_keep_prob=0.5, dropout_state_filter_visitor=visitor)
    _, new = keyed(wrapper, 1)(ONES, state)

    def leaves(part):
        if isinstance(part, dict):
            part = list(part.values())
        return [leaf for one in part for leaf in leaves(one)] if isinstance(part, (tuple, list)) else [part]

    key = Key(1).fold("").fold(0).fold("state")
    assert type(new) is type(state)
    for index, (before, after, gone) in enumerate(zip(leaves(state), leaves(new), dropped, strict=True)):
        if gone:
            assert torch.equal(after, masked(before, 0.5, key.fold(index), False))
        else:
            assert after is before


@pytest.mark.parametrize("answer", [None, 1, (True,), (True, None), {"a": True}, (True, True, True)])
def test_a_visitor_that_says_neither_yes_nor_no(answer):
    wrapper = DropoutWrapper(
        Echo(lambda input, old: old), state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: answer
    )
    with pytest.raises(TypeError, match="dropout_state_filter_visitor must return True, False or"):
        wrapper(ONES, (ONES, ONES))


def test_an_lstms_visitor_may_drop_c_too():
    wrapper = DropoutWrapper(
        torch.nn.LSTMCell(F, H), state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: True
    )
    _, (h, c) = wrapper(torch.randn(B, F))
    assert (c == 0).any()
    assert not torch.equal(c == 0, h == 0)


def test_without_a_key_each_call_or_sequence_draws_one():
    x = torch.ones(T, B, F)
    torch.manual_seed(1)
    loose = DropoutWrapper(torch.nn.GRUCell(F, H), **KEEPS)
    first, second = loose(x[0])[0], loose(x[0])[0]
    assert not torch.equal(first, second)
    tight = DropoutWrapper(loose.cell, **KEEPS, variational_recurrent=True)
    for wrapper in (loose, tight):
        torch.manual_seed(2)
        one, two = wrapper.unroll(x)[0], wrapper.unroll(x)[0]
        assert not torch.equal(one, two)
        torch.manual_seed(2)
        assert torch.equal(one, wrapper.unroll(x)[0])
    with tight.sequence():
        assert torch.equal(tight(x[0])[0], tight(x[0])[0])
    assert tight._sequence is None


def test_a_variational_step_needs_a_sequence():
    wrapper = DropoutWrapper(torch.nn.GRUCell(F, H), 0.5, variational_recurrent=True)
    with pytest.raises(RuntimeError, match=r"variational_recurrent=True needs one key for the sequence"):
        wrapper(torch.ones(B, F))
    wrapper.eval()(torch.ones(B, F))
    keyed(wrapper.train(), 1)(torch.ones(B, F))


def test_the_sequence_ends_with_an_error():
    wrapper = DropoutWrapper(torch.nn.GRUCell(F, H), 0.5, variational_recurrent=True)
    with pytest.raises(RuntimeError), wrapper.sequence():
        wrapper(torch.ones(B, F + 1))
    assert wrapper._sequence is None


def test_cells_inside_have_their_own_sequence():
    """An unkeyed variational wrapper, and zoneout, inside another wrapper."""
    inner = DropoutWrapper(torch.nn.GRUCell(20, 20), output_keep_prob=0.5, variational_recurrent=True)
    outer = DropoutWrapper(inner, output_keep_prob=0.5, variational_recurrent=True)
    y, _ = outer.unroll(torch.randn(T, B, 20))
    zeros = y == 0
    assert (zeros == zeros[0, 0]).all()
    assert 0.5 < zeros[0, 0].float().mean() < 1
    zoned = keyed(DropoutWrapper(ZoneoutCell(torch.nn.GRUCell(20, 20), 0.5)), 1)
    x = torch.randn(T, B, 20)
    expected = keyed(torch.nn.ModuleDict({"cell": zoned.cell}), 1)["cell"].unroll(x)[0]
    assert torch.equal(zoned.unroll(x)[0], expected)


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


@pytest.mark.parametrize("name", KEEPS)
def test_keep_probabilities_are_checked(name):
    cell = torch.nn.GRUCell(F, H)
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
            DropoutWrapper(cell, **{name: bad})
    for bad in (True, "0.5", None):
        with pytest.raises(TypeError, match=f"{name} must be a real number"):
            DropoutWrapper(cell, **{name: bad})
    wrapper = DropoutWrapper(cell).eval()
    setattr(wrapper, name, 2.0)
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got 2.0"):
        wrapper(torch.ones(B, F))


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


@pytest.mark.parametrize("given", [True, False])
@both_ways
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
