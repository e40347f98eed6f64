"""Recurrent layers as modules: state, optimizers, arguments, chunks, compiled code."""

import copy
import pickle

import pytest
import torch
import torch._dynamo.testing
from torch_recurrent_cases import RATES, B, F, H, T, flat, gradients, same

from thinned.torch import keyed, set_step
from thinned.torch.nn import GRU, LSTM
from thinned.torch.nn._recurrent import _in_one_chunk
from thinned.torch.schedules import Late, Linear

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # torch's own


def test_state_dict_goes_both_ways_and_pickles():
    ours, theirs = LSTM(F, H, 2, weight_p=0.5), torch.nn.LSTM(F, H, 2)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert isinstance(ours, torch.nn.LSTM)
    assert isinstance(GRU(F, H), torch.nn.GRU)
    x = torch.randn(T, B, F)
    keyed(ours, 6)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert same(flat(other(x)), flat(ours(x)))


def test_the_optimizer_trains_what_the_next_call_drops():
    layer = LSTM(F, H, weight_p=0.5)
    before = layer.weight_hh_l0.data_ptr()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(T, B, F))[0].sum().backward()
    optimizer.step()
    assert layer.weight_hh_l0.data_ptr() == before
    other = torch.nn.LSTM(F, H)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, F)
    assert same(flat(layer.eval()(x)), flat(other(x)))


def test_functional_call_uses_the_weights_it_is_given():
    layer, x = keyed(LSTM(F, H, weight_p=0.5), 1), torch.randn(T, B, F)
    twice = {n: 2 * w.detach() for n, w in layer.named_parameters()}
    got = torch.func.functional_call(layer, twice, (x,))
    with torch.no_grad():
        for w in layer.parameters():
            w *= 2
    assert same(flat(got), flat(layer(x)))


def test_schedules_and_tensors():
    x = torch.randn(T, B, F)
    fixed = keyed(LSTM(F, H, 2, dropout=0.25, weight_p=0.5), 1)
    moving = keyed(LSTM(F, H, 2, dropout=Linear(0.0, 0.5, 10), weight_p=Late(0.5, 3)), 1)
    tensor = keyed(LSTM(F, H, 2, dropout=torch.tensor(0.25), weight_p=torch.tensor(0.5)), 1)
    for other in (moving, tensor):
        other.load_state_dict(fixed.state_dict())
    for layer in (fixed, moving, tensor):
        set_step(layer, 5)
    assert same(flat(fixed(x)), flat(moving(x)))
    assert same(flat(fixed(x)), flat(tensor(x)))
    assert same(flat(moving.eval()(x)), flat(fixed.eval()(x)))


def test_repr():
    both = {"num_layers": 2, "batch_first": True, "bias": False, "bidirectional": True, "dropout": 0.1}
    for kind in (LSTM, GRU):
        extra = {"proj_size": 3} if kind is LSTM else {}
        theirs = getattr(torch.nn, kind.__name__)(F, H, **both, **extra)
        assert repr(kind(F, H, **both, **extra)) == repr(theirs)
    shown = "GRU(6, 8, weight_p=0.5, input_p=Late(p=0.5, after=3), locked=False)"
    assert repr(GRU(F, H, weight_p=0.5, input_p=Late(0.5, 3), locked=False)) == shown


def test_other_arguments_are_checked_as_torch_checks_them():
    with pytest.raises(ValueError, match=r"input must be \(T, B, F\).*got shape \(3,\)"):
        LSTM(F, H)(torch.ones(3))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
        LSTM(F, H)(torch.ones(T, B, F), (torch.ones(1, 1, H), torch.ones(1, 1, H)))
    with pytest.raises(RuntimeError, match=r"Expected hidden size"):
        GRU(F, H)(torch.ones(T, B, F), torch.ones(1, H))
    with pytest.raises(RuntimeError, match="must be equal to input_size"):
        GRU(F, H)(torch.ones(T, B, F + 1))
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        LSTM(F, H, dropout=0.5)


def test_weights_in_one_chunk():
    """What cuDNN asks: all matrices, then all biases, without a gap; each gets its own gradient."""
    weights = list(LSTM(F, H, bidirectional=True, proj_size=3).parameters())
    pieces = _in_one_chunk(weights)
    assert same(pieces, weights)
    order = sorted(pieces, key=lambda w: w.dim() == 1)
    start = order[0].data_ptr()
    for piece in order:
        assert piece.data_ptr() == start
        assert piece.untyped_storage().data_ptr() == order[0].data_ptr()
        start += piece.nbytes
    sum((k + 1) * piece.sum() for k, piece in enumerate(pieces)).backward()
    for k, weight in enumerate(weights):
        assert torch.equal(weight.grad, torch.full_like(weight, k + 1))


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_a_chunk_changes_no_bit(kind, monkeypatch):
    layer = keyed(kind(F, H, 2, dropout=0.3, **RATES), 1)
    x = torch.randn(T, B, F, requires_grad=True)
    plain = layer(x)
    expected = [*flat(plain), *gradients(plain, x, layer)]
    used = []
    monkeypatch.setattr("thinned.torch.nn._recurrent._needs_chunk", lambda weights: used.append(1) or True)
    chunked = layer(x)
    assert same([*flat(chunked), *gradients(chunked, x, layer)], expected)
    assert used


class Net(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.before = torch.nn.Linear(F, F)
        self.rnn = kind(F, H, 2, dropout=0.3, **RATES)

    def forward(self, x):
        return self.rnn(self.before(x))[0] * 2


def close(a, b):
    """The same zeros, and values to rounding."""
    pairs = zip(a, b, strict=True)
    return all(torch.equal(s == 0, t == 0) and torch.allclose(s, t, 1e-4, 1e-5) for s, t in pairs)


def steps_agree(compiled, model, x, agree=same):
    for n in range(3):
        found = []
        for run in (compiled, model):
            set_step(model, n).zero_grad()
            y = run(x)
            y.square().sum().backward()
            found.append([y, *(w.grad.clone() for w in model.parameters())])
        assert agree(*found)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_compiled_code_runs_the_layer_as_it_is(kind):
    torch._dynamo.reset()
    model = keyed(Net(kind), 1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    steps_agree(torch.compile(model, backend=counter), model, torch.randn(T, B, F))
    assert counter.frame_count == 0


# Both are one class's, and an LSTM is traced only where oneDNN is switched off.
@pytest.mark.parametrize("kind", [pytest.param(LSTM, marks=pytest.mark.full), GRU])
def test_one_graph_serves_all_steps_where_torch_may_trace(kind):
    """torch 2.13 traces no oneDNN LSTM, its own neither; of a traced GRU, its own too, other bits come."""
    torch._dynamo.reset()
    model = keyed(Net(kind), 1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(kind is GRU)
    try:
        with torch._dynamo.config.patch(allow_rnn=True):
            compiled = torch.compile(model, backend=counter, fullgraph=True)
            steps_agree(compiled, model, torch.randn(T, B, F), close)
    finally:
        torch._C._set_mkldnn_enabled(before)
    assert counter.frame_count == 1


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("name", ["weight_p", "input_p", "output_p", "dropout"])
def test_a_rate_that_is_set_later_is_checked_in_the_call(kind, name):
    layer = kind(F, H, 2).eval()
    setattr(layer, name, 2.0)
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got 2.0"):
        layer(torch.ones(T, B, F))
