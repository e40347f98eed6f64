"""Zoneout: what dropout would drop keeps its old value."""

import copy
import math

import pytest
import torch

import thinned
from thinned import Key
from thinned.contract import fold_number
from thinned.torch import keyed, nn, set_step
from thinned.torch.functional import zoneout

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def states(dtype=torch.float32, shape=(6, 8)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(2)]


def reference(new, old, p, key):
    mask = torch.from_numpy(thinned.keep_mask(tuple(new.shape), p, key=key))
    return torch.where(mask, new, old)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_outputs_equal_the_reference(p, dtype):
    new, old = states(dtype)
    assert torch.equal(zoneout(new, old, p, True, key=Key(7)), reference(new, old, p, Key(7)))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rate = torch.tensor(thinned.threshold(p) / 2**32, dtype=torch.float64)
    expected = old.to(wide) * rate.to(wide) + new.to(wide) * (1 - rate).to(wide)
    assert torch.equal(zoneout(new, old, p, False), expected.to(dtype))


def test_what_is_not_taken_has_no_influence_and_no_gradient():
    new, old = (torch.full((500,), v, requires_grad=True) for v in (math.nan, 1.0))
    y = zoneout(new, old, 0.5, True, key=Key(1))
    kept = torch.from_numpy(thinned.keep_mask(500, 0.5, key=Key(1)))
    assert torch.equal(y.isnan(), kept)
    y.backward(torch.full((500,), 3.0))
    assert torch.equal(new.grad, 3.0 * kept)
    assert torch.equal(old.grad, 3.0 * ~kept)


@pytest.mark.parametrize("training", [True, False])
def test_edge_cases(training):
    new, old = states()
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        zoneout(new, old, 1.5, training)
    with pytest.raises(ValueError, match="new and old must be of one shape and dtype"):
        zoneout(new, old[:1], 0.5, training)
    with pytest.raises(ValueError, match="new and old must be of one shape and dtype"):
        zoneout(new, old.double(), 0.5, training)
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        zoneout(new.long(), old.long(), 0.5, training)
    with pytest.raises(TypeError, match="training is missing"):
        zoneout(new, old, 0.5)
    with pytest.raises(TypeError, match="pass key or generator, not both"):
        zoneout(new, old, 0.5, training, key=Key(0), generator=torch.Generator())
    with pytest.raises(ValueError, match="hidden_p must be in"):
        nn.ZoneoutCell(torch.nn.GRUCell(4, 8), 2.0)
    with pytest.raises(ValueError, match="cell_p is for an LSTMCell"):
        nn.ZoneoutCell(torch.nn.GRUCell(4, 8), 0.1, 0.1)
    with pytest.raises(TypeError, match="cell must be"):
        nn.ZoneoutCell(torch.nn.Linear(4, 8), 0.1)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_sequence_equals_a_loop_by_hand(kind):
    torch.manual_seed(0)
    cell = getattr(torch.nn, kind)(4, 8)
    layer = keyed(nn.ZoneoutCell(cell, 0.3, 0.6 if kind == "LSTMCell" else 0.0), 3)
    set_step(layer, 5)
    inputs = torch.randn(7, 2, 4)
    outputs, last = layer.unroll(inputs)
    state = None
    for time, input in enumerate(inputs):
        new = cell(input, state)
        news = new if kind == "LSTMCell" else (new,)
        olds = [torch.zeros(2, 8)] * 2 if state is None else state if kind == "LSTMCell" else (state,)
        key = layer.key.fold(5).fold(time)
        both = tuple(
            reference(a, b, p, key.fold(fold_number(name)))
            for a, b, p, name in zip(news, olds, (0.3, 0.6), ("h", "c"), strict=False)
        )
        state = both if kind == "LSTMCell" else both[0]
        assert torch.equal(outputs[time], both[0])
    for ours, plain in zip(last, state, strict=True):
        assert torch.equal(ours, plain)


def test_evaluation_is_the_expectation_and_copies_draw_alike():
    cell = torch.nn.GRUCell(4, 8)
    layer = keyed(nn.ZoneoutCell(cell, 0.25), 3)
    input, state = torch.randn(2, 4), torch.randn(2, 8)
    assert torch.equal(copy.deepcopy(layer)(input, state, time=1), layer(input, state, time=1))
    assert not torch.equal(layer(input, state, time=1), layer(input, state, time=2))
    layer.eval()
    torch.testing.assert_close(layer(input, state), 0.25 * state + 0.75 * cell(input, state))
    assert list(layer.state_dict()) == [f"cell.{name}" for name in cell.state_dict()]


def test_compiled_equals_eager():
    torch._dynamo.reset()
    compiled = torch.compile(zoneout, backend="aot_eager", fullgraph=True)
    new, old = states()
    assert torch.equal(compiled(new, old, 0.5, True, key=Key(1)), zoneout(new, old, 0.5, True, key=Key(1)))
