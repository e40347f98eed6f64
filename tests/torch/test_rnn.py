"""Recurrent layers: torch's outputs with the masks of the definition."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch_recurrent_cases import RATES, B, F, H, T, flat, gradients, same

import thinned
from thinned import Key
from thinned.torch import functional, keyed, set_step
from thinned.torch.nn import GRU, LSTM

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # torch's own
LENGTHS = torch.tensor([3, 5, 1, 4])
NAMES = ("kind", "num_layers", "bidirectional", "batch_first", "bias", "proj_size", "form")
CASES = [
    dict(zip(NAMES, case, strict=True))
    for case in itertools.chain(
        itertools.product(
            (LSTM, GRU), (1, 3), (False, True), (False, True), (True,), (0,), ("padded", "packed")
        ),
        itertools.product((LSTM, GRU), (2,), (True,), (False, True), (False,), (0,), ("unbatched", "sorted")),
        itertools.product((LSTM,), (2,), (False, True), (False,), (True,), (3,), ("padded", "packed")),
    )
]


def name_of(case):
    flags = [k for k in ("bidirectional", "batch_first", "bias", "proj_size") if case[k]]
    return "-".join([case["kind"].__name__, str(case["num_layers"]), case["form"], *flags])


each_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def make(case, **rates):
    arguments = {k: v for k, v in case.items() if k not in ("kind", "form")}
    if case["kind"] is GRU:
        del arguments["proj_size"]
    torch.manual_seed(0)
    ours = case["kind"](F, H, **arguments, **rates)
    theirs = getattr(torch.nn, case["kind"].__name__)(F, H, **arguments)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def data(case, initial=True):
    """The padded input as a leaf, the function that brings it into the case's form, and a first state."""
    generator = torch.Generator().manual_seed(1)
    batch = 1 if case["form"] == "unbatched" else B
    x = torch.randn(T, batch, F, generator=generator)
    x = x.transpose(0, 1).contiguous() if case["batch_first"] else x
    depth = case["num_layers"] * (1 + case["bidirectional"])
    h = torch.randn(depth, batch, case["proj_size"] or H, generator=generator)
    c = torch.randn(depth, batch, H, generator=generator)
    if case["form"] == "unbatched":
        h, c = h[:, 0], c[:, 0]
    hx = (h, c) if case["kind"] is LSTM else h
    return x.requires_grad_(), hx if initial else None


def formed(x, case):
    if case["form"] == "unbatched":
        return x.squeeze(0 if case["batch_first"] else 1)
    if case["form"] in ("packed", "sorted"):
        lengths = LENGTHS if case["form"] == "packed" else LENGTHS.sort(descending=True).values
        return pack_padded_sequence(x, lengths, case["batch_first"], enforce_sorted=case["form"] == "sorted")
    return x


def masked(x, p, key, noise):
    """Inverted dropout of a padded tensor by NumPy's mask, written out."""
    keep = torch.from_numpy(np.broadcast_to(thinned.keep_mask(noise, p, key=key), x.shape).copy())
    return torch.where(keep, x * torch.tensor(thinned.scale(p), dtype=torch.float32), 0.0)


def reference(theirs, case, x, hx, key, p, locked=True):
    """A stack of torch's layers of one layer each, with everything dropped outside them."""
    kind, first, directions = case["kind"], case["batch_first"], 1 + case["bidirectional"]

    def drop(seq, rate, part):
        packed = isinstance(seq, PackedSequence)
        full = pad_packed_sequence(seq, first)[0] if packed else seq
        full = full.unsqueeze(0 if first else 1) if case["form"] == "unbatched" else full
        samples, times = full.shape[:2] if first else full.shape[1::-1]
        noise = [samples, 1 if locked else times] if first else [1 if locked else times, samples]
        full = masked(full, rate, key.fold(part), (*noise, full.shape[2]))
        return formed(full, case)

    weights = dict(theirs.named_parameters())
    seq, states = drop(formed(x, case), p["input_p"], "input"), []
    for k in range(case["num_layers"]):
        own = {n.replace(f"_l{k}", "_l0"): w for n, w in weights.items() if f"_l{k}" in n}
        for name in [n for n in own if n.startswith("weight_hh")]:
            w, part = own[name], name.replace("_l0", f"_l{k}")
            own[name] = masked(w, p["weight_p"], key.fold(part), w.shape)
        size = F if k == 0 else directions * (case["proj_size"] or H)
        extra = {"proj_size": case["proj_size"]} if kind is LSTM else {}
        one = getattr(torch.nn, kind.__name__)(
            size, H, 1, case["bias"], first, bidirectional=case["bidirectional"], **extra
        )
        part = slice(k * directions, (k + 1) * directions)
        start = tuple(s[part] for s in hx) if kind is LSTM else hx[part]
        seq, state = torch.func.functional_call(one, own, (seq, start))
        states.append(state)
        if k < case["num_layers"] - 1:
            seq = drop(seq, p["dropout"], f"layer{k}")
    last = tuple(map(torch.cat, zip(*states, strict=True))) if kind is LSTM else torch.cat(states)
    return drop(seq, p["output_p"], "output"), last


@each_case
@pytest.mark.parametrize("initial", [True, False])
def test_evaluation_equals_torchs_to_the_bit(case, initial):
    dropout = {"dropout": 0.2} if case["num_layers"] > 1 else {}
    ours, theirs = make(case, **RATES, **dropout)
    x, hx = data(case, initial)
    got, expected = ours.eval()(formed(x, case), hx), theirs.eval()(formed(x, case), hx)
    assert same(flat(got), flat(expected))
    assert [t.shape for t in flat(got)] == [t.shape for t in flat(expected)]
    assert same(gradients(got, x, ours), gradients(expected, x, theirs))


@each_case
def test_training_without_dropout_equals_torchs(case):
    ours, theirs = make(case)
    x, hx = data(case)
    got, expected = ours(formed(x, case), hx), theirs(formed(x, case), hx)
    assert same(flat(got), flat(expected))
    assert same(gradients(got, x, ours), gradients(expected, x, theirs))


@each_case
@pytest.mark.parametrize("locked", [True, False])
def test_training_equals_torchs_layers_with_numpys_masks(case, locked):
    rates = {**RATES, **({"dropout": 0.2} if case["num_layers"] > 1 else {})}
    ours, theirs = make(case, **rates, locked=locked)
    keyed(ours, 3)
    set_step(ours, 7)
    key = Key(3).fold("").fold(7).fold(2)
    x, hx = data(case)
    got = ours(formed(x, case), hx, call=2)
    expected = reference(theirs, case, x, hx, key, rates, locked)
    assert same(flat(got), flat(expected))
    assert (flat(got)[0] == 0).any()
    mine, torchs = gradients(got, x, ours), gradients(expected, x, theirs)
    assert same(mine, torchs)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_weights_alone_are_dropped_in_one_call_of_the_kernel(kind, monkeypatch):
    """The layers of a stack are one call, unless something is dropped between them."""
    calls = []
    fused = getattr(torch, kind.__name__.lower())
    monkeypatch.setattr(torch, kind.__name__.lower(), lambda *a: calls.append(a[4]) or fused(*a))
    kind(F, H, 3, weight_p=0.5)(torch.randn(T, B, F))
    assert calls == [3]
    kind(F, H, 3, weight_p=0.5, dropout=0.1)(torch.randn(T, B, F))
    assert calls == [3, 1, 1, 1]


def test_a_dropped_weight_has_no_gradient():
    layer = keyed(LSTM(F, H, 2, weight_p=0.4), 5)
    layer(torch.randn(T, B, F))[0].sum().backward()
    for name, weight in layer.named_parameters():
        if name.startswith("weight_hh"):
            key = Key(5).fold("").fold(0).fold(name)
            keep = torch.from_numpy(thinned.keep_mask(weight.shape, 0.4, key=key))
            assert torch.equal(weight.grad != 0, keep)
        else:
            assert bool((weight.grad != 0).all())


def test_the_rate_of_dropped_weights():
    p, n = 0.3, 0
    layer = LSTM(F, 100, weight_p=p)
    for _ in range(5):
        layer.zero_grad()
        layer(torch.randn(2, 3, F))[0].sum().backward()
        n += int((layer.weight_hh_l0.grad == 0).sum())
    draws = 5 * layer.weight_hh_l0.numel()
    z = (n - draws * p) / math.sqrt(draws * p * (1 - p))
    assert abs(z) < 5, z


def test_a_locked_mask_is_that_of_locked_dropout():
    layer = keyed(GRU(F, H, output_p=0.5, batch_first=True), 1)
    ones = torch.ones(B, T, H)
    expected = functional.locked_dropout(
        ones, 0.5, True, batch_first=True, key=Key(1).fold("").fold(0).fold("output")
    )
    got = layer(torch.randn(B, T, F))[0]
    assert torch.equal(got == 0, expected == 0)
    assert len({tuple(row) for row in (got[:, 0] == 0).tolist()}) > 1


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_packing_does_not_change_the_masks(batch_first, locked):
    """Padded, or packed by length: the same zeros in the output and in the input's gradient."""
    layer = keyed(LSTM(F, H, batch_first=batch_first, input_p=0.5, output_p=0.5, locked=locked), 8)
    x = torch.randn(B, T, F) if batch_first else torch.randn(T, B, F)
    lengths = torch.tensor([3, 5, 2, 4])
    inside = torch.arange(T) < lengths[:, None]

    def zeros(run):
        set_step(layer, 0)
        v = x.clone().requires_grad_()
        y = run(v)
        y.square().sum().backward()
        found = [t if batch_first else t.transpose(0, 1) for t in (y, v.grad)]
        return [(t == 0)[inside] for t in found]

    def packed(v):
        seq = pack_padded_sequence(v, lengths, batch_first, enforce_sorted=False)
        return pad_packed_sequence(layer(seq)[0], batch_first)[0]

    expected, got = zeros(lambda v: layer(v)[0]), zeros(packed)
    assert all(t.any() for t in expected)
    assert torch.equal(expected[0], got[0])
    # A zero in the padded input's gradient is that of its mask: the last output depends on all of it.
    assert torch.equal(expected[1], got[1])


def test_masks_of_a_call_differ_and_so_do_calls_and_steps():
    layer = keyed(LSTM(H, H, 3, input_p=0.5, dropout=0.5, output_p=0.5, weight_p=0.5), 2)
    x = torch.randn(T, B, H)
    first = layer(x)[0]
    assert torch.equal(first, layer(x)[0])
    assert not torch.equal(first, layer(x, call=1)[0])
    assert not torch.equal(first, set_step(layer, 1)(x)[0])
    assert torch.equal(first, set_step(layer, 0)(x)[0])
    names = [
        "input",
        "output",
        "layer0",
        "layer1",
        *(f"{name}_l{k}" for name in ("hidden", "weight_hh") for k in range(3)),
    ]
    assert sorted(layer._parts) == sorted(names)
    assert len(set(layer._parts.values())) == len(names)


def test_without_a_key_each_call_draws_one_from_torchs_generator():
    layer = LSTM(F, H, 2, dropout=0.3, **RATES)
    x = torch.randn(T, B, F)
    torch.manual_seed(4)
    one, two = layer(x)[0], layer(x)[0]
    assert not torch.equal(one, two)
    torch.manual_seed(4)
    assert torch.equal(one, layer(x)[0])
    torch.manual_seed(4)
    torch.empty(2, dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(two, layer(x)[0])


@pytest.mark.parametrize("keyed_", [True, False])
def test_generator_is_left_alone_where_nothing_is_drawn(keyed_):
    x, state = torch.randn(T, B, F), torch.get_rng_state()
    layer = LSTM(F, H, **RATES) if keyed_ else LSTM(F, H)
    state = torch.get_rng_state()
    if keyed_:
        keyed(layer, 1)
    layer(x)
    LSTM.eval(layer)(x)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropped_is_zero_whatever_it_was(p):
    layer = keyed(GRU(F, H, input_p=p, output_p=p, weight_p=p), 1)
    keep = torch.from_numpy(thinned.keep_mask((1, B, F), p, key=Key(1).fold("").fold(0).fold("input")))
    x = torch.where(keep.expand(T, B, F), 1.0, math.nan).requires_grad_()
    y, _ = layer(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert torch.equal(x.grad != 0, keep.expand(T, B, F))
    if p == 1:
        assert not y.detach().view(torch.int32).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    layer = keyed(LSTM(F, H, 2, dropout=0.2, dtype=dtype, **RATES), 1)
    x = torch.randn(T, B, F, dtype=dtype)
    y, (h, c) = layer(x)
    assert y.dtype == h.dtype == c.dtype == dtype
    again = keyed(LSTM(F, H, 2, dropout=0.2, **RATES), 1)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(y == 0, again(x.float())[0] == 0)
