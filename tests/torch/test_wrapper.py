"""DropoutWrapper: the masks of a cell's inputs, states and outputs are those of a plain loop."""

import math
from typing import NamedTuple

import pytest
import torch
import torch._dynamo.testing
from torch_wrapped_cells import CELLS, KEEPS, B, F, H, T, a_state, both_ways, each_kind, flat, masked, same

from thinned import Key
from thinned.torch import keyed, set_step
from thinned.torch.nn import DropoutWrapper, ZoneoutCell


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
