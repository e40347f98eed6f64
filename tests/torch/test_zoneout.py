"""Zoneout: selection by NumPy's mask, the expectation, and cells beside loops over torch's own."""

import copy
import math
import pickle

import pytest
import torch
import torch._dynamo.testing

import thinned
from thinned import Key
from thinned.torch import keyed, set_step
from thinned.torch.functional import zoneout
from thinned.torch.nn import ZoneoutCell
from thinned.torch.schedules import Linear

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
T, B, F, H = 5, 3, 4, 6
CELLS = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell, "RNN": torch.nn.RNNCell}


def pair(shape=(20, 30), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(2))


def taken(shape, p, key):
    """True where the new value is."""
    return torch.from_numpy(thinned.keep_mask(shape, p, key=key))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_are_selected_by_numpys_mask(dtype):
    new, old = pair(dtype=dtype)
    keep = taken((20, 30), 0.3, Key(4))
    y = zoneout(new, old, 0.3, True, key=Key(4))
    upstream = torch.randn(20, 30).to(dtype)
    y.backward(upstream)
    assert torch.equal(y, torch.where(keep, new, old))
    assert torch.equal(new.grad, torch.where(keep, upstream, 0))
    assert torch.equal(old.grad, torch.where(keep, 0, upstream))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_evaluation_is_the_expectation(dtype):
    new, old = pair(dtype=dtype)
    y = zoneout(new, old, 0.25, False)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    expected = (0.25 * old.to(wide) + 0.75 * new.to(wide)).to(dtype)
    assert y.dtype == dtype
    assert torch.equal(y, expected)
    y.sum().backward()
    assert torch.equal(new.grad, torch.full_like(new, 0.75))
    assert torch.equal(old.grad, torch.full_like(old, 0.25))


def test_evaluation_is_the_mean_over_masks():
    new, old = pair((50,), torch.float64)
    n = 4000
    mean = sum(zoneout(new, old, 0.3, True, key=Key(1).fold(i)) for i in range(n)) / n
    spread = (new - old).abs() * math.sqrt(0.3 * 0.7 / n)
    z = ((mean - zoneout(new, old, 0.3, False)) / spread).abs().max()
    assert z < 5, z


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_taken_has_no_influence(value):
    keep = taken((200,), 0.5, Key(2))
    for bad_is_new in (True, False):
        bad = torch.where(keep != bad_is_new, value, 1.0).requires_grad_()
        good = torch.full((200,), 2.0, requires_grad=True)
        new, old = (bad, good) if bad_is_new else (good, bad)
        y = zoneout(new, old, 0.5, True, key=Key(2))
        y.backward(torch.ones(200))
        assert y.isfinite().all()
        assert torch.equal(new.grad, keep.float())
        assert torch.equal(old.grad, (~keep).float())


@pytest.mark.parametrize("training", [True, False])
def test_the_ends(training):
    new, old = pair()
    assert zoneout(new, old, 0.0, training) is new
    assert zoneout(new, old, 1.0, training) is old


def zoned(after, before, p, key):
    return torch.where(taken(tuple(after.shape), p, key), after, before)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_sequence_equals_a_loop_over_torchs_cell(kind, initial, batch_first):
    cell = CELLS[kind](F, H)
    layer = keyed(ZoneoutCell(cell, 0.3, 0.4 if kind == "LSTM" else 0.0), 9)
    set_step(layer, 4)
    x = torch.randn(T, B, F)
    h, c = (torch.randn(B, H) if initial else torch.zeros(B, H) for _ in range(2))
    state = ((h, c) if kind == "LSTM" else h) if initial else None
    got, last = layer.unroll(x.transpose(0, 1) if batch_first else x, state, batch_first=batch_first, call=1)
    outputs = []
    for t in range(T):
        key = Key(9).fold("").fold(4).fold(1).fold(t)
        if kind == "LSTM":
            after, after_c = cell(x[t], (h, c))
            h, c = zoned(after, h, 0.3, key.fold("h")), zoned(after_c, c, 0.4, key.fold("c"))
        else:
            h = zoned(cell(x[t], h), h, 0.3, key.fold("h"))
        outputs.append(h)
    expected = torch.stack(outputs)
    assert torch.equal(got, expected.transpose(0, 1) if batch_first else expected)
    assert all(map(torch.equal, last, (h, c))) if kind == "LSTM" else torch.equal(last, h)


def test_a_loop_by_hand_is_told_the_time():
    layer = keyed(ZoneoutCell(torch.nn.GRUCell(F, H), 0.5), 1)
    x, state = torch.randn(T, B, F), torch.randn(B, H)
    expected, _ = layer.unroll(x, state)
    for t in range(T):
        before, state = state, layer(x[t], state, time=t)
        assert torch.equal(state, expected[t])
        assert (state == before).any()
        assert not (state == before).all()


@pytest.mark.parametrize("kind", CELLS)
def test_nothing_zoned_is_the_cell_and_evaluation_the_expectation(kind):
    cell = CELLS[kind](F, H)
    x = torch.randn(B, F)
    state = torch.randn(2, B, H).unbind() if kind == "LSTM" else torch.randn(B, H)
    plain = cell(x, state)
    rng = torch.get_rng_state()
    same = ZoneoutCell(cell)(x, state)
    mixed = ZoneoutCell(cell, 0.25, 0.5 if kind == "LSTM" else 0.0).eval()(x, state)
    assert torch.equal(rng, torch.get_rng_state())
    if kind == "LSTM":
        assert all(map(torch.equal, same, plain))
        assert torch.equal(mixed[0], 0.25 * state[0] + 0.75 * plain[0])
        assert torch.equal(mixed[1], 0.5 * state[1] + 0.5 * plain[1])
    else:
        assert torch.equal(same, plain)
        assert torch.equal(mixed, 0.25 * state + 0.75 * plain)


def test_copies_schedules_and_names():
    layer = keyed(ZoneoutCell(torch.nn.LSTMCell(F, H), Linear(0.0, 0.4, 10), 0.5), 2)
    fixed = keyed(ZoneoutCell(copy.deepcopy(layer.cell), 0.2, 0.5), 2)
    x = torch.randn(T, B, F)
    for each in (layer, fixed):
        set_step(each, 5)
    expected = fixed.unroll(x)[0]
    for other in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.unroll(x)[0], expected)
    assert list(fixed.state_dict()) == [f"cell.{name}" for name in layer.cell.state_dict()]
    assert "hidden_p=0.2, cell_p=0.5" in repr(fixed)


def test_the_layers_arguments_are_checked():
    lstm, gru = torch.nn.LSTMCell(F, H), torch.nn.GRUCell(F, H)
    for name in ("hidden_p", "cell_p"):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
            ZoneoutCell(lstm, **{name: 1.5})
        with pytest.raises(TypeError, match=f"{name} must be a real number"):
            ZoneoutCell(lstm, **{name: None})
    with pytest.raises(ValueError, match="cell_p is for an LSTMCell"):
        ZoneoutCell(gru, 0.1, 0.5)
    with pytest.raises(TypeError, match=r"cell must be nn\.LSTMCell"):
        ZoneoutCell(torch.nn.LSTM(F, H))
    with pytest.raises(ValueError, match="with at least one time"):
        ZoneoutCell(gru, 0.1).unroll(torch.ones(0, B, F))
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        ZoneoutCell(gru, 0.1).unroll(torch.ones(F))


@pytest.mark.parametrize(
    "kind", ["LSTM", pytest.param("GRU", marks=pytest.mark.full)]
)  # it has the more states
def test_one_graph_serves_all_steps(kind):
    torch._dynamo.reset()
    layer = keyed(ZoneoutCell(CELLS[kind](F, H), 0.3, 0.4 if kind == "LSTM" else 0.0), 1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x: layer.unroll(x)[0], backend=counter, fullgraph=True)
    x = torch.randn(3, B, F)
    for n in range(3):
        set_step(layer, n)
        found = []
        for run in (compiled, lambda x: layer.unroll(x)[0]):
            layer.zero_grad()
            y = run(x)
            y.square().sum().backward()
            found.append([y, *(w.grad.clone() for w in layer.parameters())])
        for a, b in zip(*found, strict=True):
            assert torch.allclose(a, b, 1e-5, 1e-6)
    assert counter.frame_count == 1


def test_compiled_code_without_a_key_draws_anew():
    torch._dynamo.reset()
    compiled = torch.compile(lambda a, b: zoneout(a, b, 0.5, True), backend="aot_eager", fullgraph=True)
    new, old = torch.ones(500), torch.zeros(500)
    one, two = compiled(new, old), compiled(new, old)
    assert not torch.equal(one, two)
    z = (float(one.sum() + two.sum()) - 500) / math.sqrt(250)
    assert abs(z) < 5, z


def test_an_expectation_without_a_share_of_one_ignores_it():
    nothing, state = torch.full((2, 3), math.nan), torch.ones(2, 3)
    p = torch.tensor([[0.0], [1.0]])
    y = zoneout(torch.stack([state[0], nothing[0]]), torch.stack([nothing[1], state[1]]), p, False)
    assert torch.equal(y, state)


@pytest.mark.parametrize("training", [True, False])
def test_states_are_of_one_shape_and_type(training):
    new, old = torch.ones(3, 2), torch.zeros(3, 2)
    for other in (old[:2], old.double()):
        with pytest.raises(ValueError, match="one shape and dtype"):
            zoneout(new, other, 0.5, training)
    p = torch.tensor([0.1, 0.5, 0.9])[:, None]
    assert torch.allclose(zoneout(new, old, p, False), 1 - p.expand(3, 2))
