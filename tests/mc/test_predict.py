"""Predictions by many thinned networks: the same whatever the batch, the chunks and the memory."""

import gc
import random
import warnings
import weakref

import numpy as np
import pytest
import torch
from mc import zoo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

import thinned
from thinned.mc import SilentError
from thinned.mc.torch import active, predict
from thinned.mc.torch._batch import Traced
from thinned.torch import functional, nn

KEY = thinned.Key(2**63 + 5, 11)


def mlp(p=0.5, q=0.3):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 16),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(p),
        torch.nn.Linear(16, 16),
        torch.nn.ReLU(),
        torch.nn.Dropout(q),
        torch.nn.Linear(16, 3),
    ).eval()


def rows(n=70):
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(1))


class Live(TorchDispatchMode):
    """The most bytes alive at once of all that operators make, below vmap."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(one, torch.Tensor):
                self.note(one.untyped_storage())
        return out

    def note(self, storage):
        place = storage._cdata
        if place in self.known:
            return
        self.known.add(place)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.gone, place, storage.nbytes())

    def gone(self, place, size):
        self.known.discard(place)
        self.now -= size


# The rule.


def test_masks_are_those_of_sample_input_and_site():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Identity(), torch.nn.Dropout(0.2))
    x = torch.ones(5, 4, 6)
    found = predict(model, x, samples=7, key=KEY, keep=True)
    for k in range(7):
        for i in range(5):
            want = np.ones((1, 4, 6), np.float32)
            for n, p in enumerate((0.5, 0.2)):
                want = thinned.dropout(want, p, key=KEY.fold(k).fold(i).fold(n), training=True)
            assert np.array_equal(found.draws[k, i], want[0])


def test_shared_masks_are_those_of_sample_and_site():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.0), torch.nn.Dropout(0.2))
    found = predict(model, torch.ones(5, 40), samples=3, key=KEY, keep=True, shared=True)
    for k in range(3):
        want = np.ones((1, 40), np.float32)
        for n, p in enumerate((0.5, 0.2)):  # what never drops has no number
            want = thinned.dropout(want, p, key=KEY.fold(k).fold(n), training=True)
        assert np.array_equal(found.draws[k], np.broadcast_to(want, (5, 40)))


def test_a_shared_sample_of_one_input_is_a_call_under_active():
    model, x = mlp(), rows(1)
    found = predict(model, x, samples=4, key=KEY, keep=True, shared=True)
    with torch.no_grad(), active(model, key=KEY):
        draws = torch.stack([model(x) for _ in range(4)])
    np.testing.assert_allclose(found.draws, draws, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", zoo.CASES)
def test_traced_and_run_at_once_or_one_by_one_is_the_same(name, monkeypatch):
    case = zoo.CASES[name]
    model, x = zoo.build(case)
    options = {"samples": 4, "key": KEY, "keep": True, "also": case.named}
    at_once = predict(model, x, **options).draws

    def no_trace(*_):
        raise RuntimeError("none wanted")

    monkeypatch.setattr(Traced, "agrees", no_trace)
    with pytest.warns(UserWarning, match="input by input, sample by sample: RuntimeError: none wanted"):
        one_by_one = predict(model, x, **options).draws
    # Not a mask in a thousand may differ: one that did would show far beyond rounding.
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["modules", "encoder", "lstm", "attention", "batch norm", "our weights"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_thinned_network_of_the_zoo_can_be_shared(name, shared):
    case = zoo.CASES[name]
    model, x = zoo.build(case)
    alike = x[:1].expand_as(x).contiguous()
    draws = predict(model, alike, samples=5, key=KEY, keep=True, shared=shared).draws
    assert np.allclose(draws, draws[:, :1], rtol=1e-5, atol=1e-6) == shared


# Batches, chunks, more samples, several shapes.


@pytest.mark.parametrize("shared", [False, True])
def test_batches_and_chunks_make_no_difference(shared):
    model, x = mlp(), rows()
    whole = predict(model, x, samples=30, key=KEY, keep=True, shared=shared, outputs="logits")
    for options in ({"batch_size": 1}, {"batch_size": 7}, {"batch_size": 64}, {"memory": 5000}):
        part = predict(model, x, samples=30, key=KEY, keep=True, shared=shared, outputs="logits", **options)
        np.testing.assert_allclose(part.draws, whole.draws, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(part.mutual_information, whole.mutual_information, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 64}, {"memory": 20000}]
)
def test_masks_of_any_batches_and_chunks_are_equal_bits(options):
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.1))
    x = torch.ones(70, 33)
    whole = predict(model, x, samples=12, key=KEY, keep=True)
    assert np.array_equal(predict(model, x, samples=12, key=KEY, keep=True, **options).draws, whole.draws)


@pytest.mark.parametrize("shared", [False, True])
def test_parts_of_a_whole_have_its_samples(shared):
    masks = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.1))
    for model, x in ((masks, torch.ones(70, 12)), (mlp(), rows())):
        options = {"samples": 12, "key": KEY, "keep": True, "shared": shared}
        whole = predict(model, x, **options).draws
        parts = [predict(model, x[first : first + 30], first=first, **options).draws for first in (0, 30, 60)]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)
        if model is masks:
            assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_a_part_of_what_cannot_be_traced_has_the_samples_of_the_whole(monkeypatch):
    monkeypatch.setattr(Traced, "agrees", lambda *_: False)
    model, x = torch.nn.Dropout(0.5), torch.ones(5, 9)
    with pytest.warns(UserWarning, match="cannot be traced"):
        whole = predict(model, x, samples=3, key=KEY, keep=True).draws
    with pytest.warns(UserWarning, match="cannot be traced"):
        part = predict(model, x[3:], samples=3, key=KEY, keep=True, first=3).draws
    assert np.array_equal(part, whole[:, 3:])


def test_more_samples_extend_fewer():
    model, x = mlp(), rows(5)
    few = predict(model, x, samples=8, key=KEY, keep=True).draws
    many = predict(model, x, samples=20, key=KEY, keep=True).draws
    np.testing.assert_allclose(many[:8], few, rtol=1e-5, atol=1e-6)


def test_inputs_may_come_in_every_form():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop = torch.nn.Linear(12, 4), torch.nn.Dropout(0.5)

        def forward(self, a, b, scale=1.0):
            return self.drop(self.first(a)) * scale + b

    model, a, b = Two(), rows(10), rows(10)[:, :4]
    options = {"samples": 5, "key": KEY, "keep": True}
    want = predict(model, (a, b), **options).draws
    found = [
        predict(model, {"a": a, "b": b}, **options),
        predict(model, (a.double().numpy(), b.numpy()), **options),
        predict(model, ({"a": a[k : k + 4], "b": b[k : k + 4]} for k in (0, 4, 8)), **options),
    ]
    for one in found:
        np.testing.assert_allclose(one.draws, want, rtol=1e-5, atol=1e-6)
    loader = DataLoader(TensorDataset(rows(10), torch.arange(10)), batch_size=4)
    np.testing.assert_allclose(
        predict(mlp(), loader, **options).draws,
        predict(mlp(), rows(10), **options).draws,
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_batch_may_be_another_dimension():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16).eval()
    first = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    first.load_state_dict(layer.state_dict())
    x = torch.randn(6, 3, 8)
    a = predict(layer, x.transpose(0, 1), samples=4, key=KEY, keep=True, batch_dim=1).draws
    b = predict(first, x, samples=4, key=KEY, keep=True).draws
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_outputs_of_other_kinds():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Wrapped(torch.nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.inner, self.wrap = mlp(), wrap

        def forward(self, x):
            return self.wrap(self.inner(x))

    x = rows(4)
    want = predict(mlp(), x, samples=5, key=KEY).mean
    for wrap in (lambda y: (y, None), lambda y: {"logits": y}, Output):
        np.testing.assert_allclose(predict(Wrapped(wrap), x, samples=5, key=KEY).mean, want, rtol=1e-5)
    with pytest.raises(TypeError, match=r"the model must return a tensor, .* got NoneType: wrap it"):
        predict(Wrapped(lambda y: None), x, samples=5)
    with pytest.raises(ValueError, match=r"one output for each input along dimension 0, got shape \(3,\)"):
        predict(Wrapped(lambda y: y[0]), x, samples=5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    found = predict(mlp().to(dtype), rows(4).to(dtype), samples=10, key=KEY, outputs="logits", keep=True)
    assert found.mean.dtype == np.float64
    assert found.draws.dtype == (np.float64 if dtype == torch.float64 else np.float32)


# The prefix, weights, memory, time to stop.


def test_what_no_mask_enters_runs_once():
    class Counted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Linear(12, 256), torch.nn.Linear(256, 3)

        def forward(self, x):
            return self.last(thinned.torch.functional.dropout(torch.erf(self.first(x)), 0.5, training=True))

    class Count(TorchDispatchMode):
        erf = dropout = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.erf.default:
                self.erf += out.numel()
            if func is torch.ops.thinned.dropout.default:
                self.dropout += out.numel()
            return out

    with Count() as count:
        predict(Counted(), rows(8), samples=40, key=KEY, memory=400_000)
    assert count.erf == (8 + 4) * 256  # and once for the model, without data, the trace, and the check of it
    assert count.dropout == (40 * 8 + 4) * 256


def test_a_prediction_is_never_older_than_the_weights():
    model, x = mlp(), rows(4)
    options = {"samples": 5, "key": KEY, "keep": True}
    before = predict(model, x, **options).draws
    with torch.no_grad():
        model[0].weight.mul_(2)
    model[6].weight = torch.nn.Parameter(model[6].weight * 3)
    fresh = mlp()
    fresh.load_state_dict(model.state_dict())
    after = predict(model, x, **options).draws
    assert not np.allclose(after, before)
    np.testing.assert_array_equal(after, predict(fresh, x, **options).draws)


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("modules", 60_000),
        ("encoder", 2_000_000),
        ("lstm", 300_000),
        ("batch norm", 400_000),
        ("channels", 200_000),
    ],
)
def test_memory_stays_under_the_limit(name, memory):
    case = zoo.CASES[name]
    model, x = zoo.build(case)
    x = x.repeat(20, *(1,) * (x.dim() - 1))
    gc.collect()
    with Live() as live:
        predict(model, x, samples=50, key=KEY, memory=memory)
    assert live.most <= memory
    with Live() as free:
        predict(model, x, samples=50, key=KEY)
    assert free.most > memory  # so that the limit was what held it


def test_memory_that_one_sample_exceeds_is_refused():
    with pytest.raises(ValueError, match=r"memory=100 bytes are too few: one input takes \d+"):
        predict(mlp(), rows(3), samples=10, memory=100)


def test_a_tolerance_stops_each_input_by_itself():
    model, x = mlp(), rows(40)
    found = predict(model, x, samples=400, key=KEY, outputs="logits", tolerance=0.005, keep=True)
    assert len(set(found.samples.tolist())) > 2
    assert (found.samples % 10 == 0).all()
    assert (found.standard_error.mean.max(axis=1) <= 0.005).all()
    assert np.isnan(found.draws[found.samples.min() :, found.samples.argmin()]).all()
    again = predict(model, x, samples=400, key=KEY, outputs="logits", tolerance=0.005, batch_size=7)
    assert np.array_equal(found.samples, again.samples)
    fixed = predict(model, x[:1], samples=int(found.samples[0]), key=KEY, outputs="logits")
    np.testing.assert_allclose(found.mutual_information[0], fixed.mutual_information[0], rtol=1e-4)
    most = predict(model, x, samples=20, key=KEY, outputs="logits", tolerance=1e-9)
    assert (most.samples == 20).all()


# What is refused, and said.


@pytest.mark.parametrize("name", zoo.SILENT)
def test_silence_is_an_error(name):
    model, x = zoo.build(zoo.SILENT[name])
    message = "all samples of all inputs are equal: Sequential has nothing that drops. No call in its forward"
    with pytest.raises(SilentError, match=message):
        predict(model, x, samples=5)


def test_a_silent_site_is_named():
    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.attention = torch.nn.Linear(4, 4), torch.nn.Module()
            self.attention.dropout_p = 0.3

        def forward(self, x):
            return self.block(x)

    with pytest.raises(SilentError, match=r"attention: Module p=0.3, nothing drew by its dropout_p: name"):
        predict(Silent(), torch.ones(2, 4), samples=5)


def test_a_model_that_cannot_be_traced_is_run_as_it_is():
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, x):
            y = self.drop(x)
            return y * 2 if bool(y.sum() > 6) else y

    with pytest.warns(UserWarning, match="model cannot be traced") as caught:
        found = predict(Branching(), torch.ones(3, 8), samples=6, key=KEY, keep=True)
    assert caught[0].filename == __file__
    for k in range(6):
        for i in range(3):
            y = thinned.dropout(
                np.ones((1, 8), np.float32), 0.5, key=KEY.fold(k).fold(i).fold(0), training=True
            )
            assert np.array_equal(found.draws[k, i], (y * 2 if y.sum() > 6 else y)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
def test_a_compiled_model_is_predicted_as_it_was_written():
    want = predict(mlp(), rows(3), samples=4, key=KEY, keep=True).draws
    compiled = torch.compile(mlp(), backend="eager")
    compiled(rows(3))
    np.testing.assert_array_equal(predict(compiled, rows(3), samples=4, key=KEY, keep=True).draws, want)
    torch.compiler.reset()


def test_a_trace_that_would_lie_is_not_used():
    class Remembers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.seen = torch.nn.Dropout(0.5), 0

        def forward(self, x):
            self.seen += 1
            return self.drop(x) + self.seen

    with pytest.warns(UserWarning, match="depends on values that a trace cannot see"):
        predict(Remembers(), torch.ones(3, 8), samples=3, key=KEY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"outputs": "logit"}, 'outputs must be "values", "logits" or "probabilities", got \'logit\''),
        ({"memory": 0}, "memory must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"first": -1}, r"first must be in \[0, 2\^60\), got -1: it is the number of x's first input"),
        ({"first": 2**60}, r"first must be in \[0, 2\^60\)"),
        ({"first": 2**60 - 1}, r"first=\d+ leaves numbers for 1 inputs below 2\^60, got 2: begin lower"),
        ({"batch_dim": 5}, r"batch_dim must be in \[0, 2\), a dimension of x, got 5 for \(2, 12\)"),
        ({"batch_dim": -1}, r"batch_dim must be in \[0, 2\), a dimension of x, got -1"),
        ({"tolerance": float("nan")}, "tolerance must be positive, got nan"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        predict(mlp(), rows(2), **options)


def test_inputs_that_do_not_fit_are_refused():
    for none in (rows(0), [], iter([rows(0)])):
        with pytest.raises((ValueError, TypeError), match=r"x has no inputs|x must be an array"):
            predict(mlp(), none, samples=3)
    with pytest.raises(
        ValueError, match=r"as many inputs in each of its tensors along dimension 0, got \[2, 3\]"
    ):
        predict(mlp(), (rows(2), rows(3)), samples=3)
    with pytest.raises(TypeError, match=r"x must be an array, .* got list"):
        predict(mlp(), [1.0], samples=3)


def test_a_data_frame_of_numbers_is_an_array():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(4).numpy())
    options = {"samples": 3, "key": KEY, "keep": True}
    wanted = predict(mlp(), rows(4), **options).draws
    assert np.array_equal(predict(mlp(), frame, **options).draws, wanted)
    assert np.array_equal(predict(mlp(), frame.astype("float64"), **options).draws, wanted)
    frame["name"] = "a"
    with pytest.raises(TypeError, match="x is a DataFrame with columns that are no numbers: pass those that"):
        predict(mlp(), frame, **options)


@pytest.mark.parametrize("kind", ["values", "logits"])
def test_complex_outputs_are_refused(kind):
    class Complex(torch.nn.Module):
        def forward(self, x):
            return torch.complex(torch.nn.functional.dropout(x, 0.5, self.training), x)

    with pytest.raises(
        TypeError, match=r"must return real numbers, got complex64: return real and imaginary"
    ):
        predict(Complex(), rows(3), samples=3, outputs=kind)


def test_what_is_not_a_number_is_never_known_well_enough():
    class Nan(torch.nn.Module):
        def forward(self, x):
            y = torch.nn.functional.dropout(x, 0.5, self.training)
            return torch.where(x[:, :1] > 0, y, torch.nan)

    x = torch.ones(2, 8)
    x[1] = -1
    found = predict(Nan(), x, samples=40, tolerance=0.5, key=KEY, keep=True)
    assert found.samples.tolist() == [10, 40]
    assert found.draws.shape == (40, 2, 8)


class LayerDrop(torch.nn.Module):
    """Skips layers by a number without a dimension, as people write it."""

    def __init__(self, number):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(12, 12) for _ in range(3))
        self.number, self.layerdrop = number, 0.4

    def forward(self, x):
        for layer in self.layers:
            if not (self.training and self.number() < self.layerdrop):
                x = layer(x)
        return x


@pytest.mark.parametrize(
    "number",
    [
        lambda: torch.rand([]),
        lambda: torch.rand(()),
        lambda: torch.rand(1),
        lambda: torch.rand(1).item(),
        lambda: torch.empty(()).uniform_(),
        lambda: 1 - torch.distributions.Bernoulli(0.4).sample(),
        lambda: 1 - torch.bernoulli(torch.tensor(0.4)),
        lambda: torch.randint(0, 10, ()) / 10,
        lambda: torch.multinomial(torch.tensor([0.4, 0.6]), 1),
    ],
)
def test_layers_are_dropped_by_numbers_without_a_dimension(number):
    x = rows(4)
    with pytest.warns(UserWarning, match="runs input by input"):
        found = predict(LayerDrop(number), x, samples=12, key=KEY, keep=True).draws
    with pytest.warns(UserWarning, match="runs input by input"):
        again = predict(LayerDrop(number), x[2:], samples=12, key=KEY, keep=True, first=2).draws
    assert np.array_equal(found[:, 2:], again)
    assert len({one.tobytes() for one in found[:, 0]}) > 2


@pytest.mark.parametrize("number", [random.random, np.random.rand])
def test_numbers_that_no_key_reaches_are_told(number):
    for _ in range(2):
        with pytest.warns(UserWarning, match=".") as caught:
            predict(LayerDrop(number), rows(3), samples=4, key=KEY)
        assert "numbers were drawn that no key reaches, so that samples are no function" in str(
            caught[0].message
        )
        assert "runs input by input" in str(caught[1].message)
    with active(LayerDrop(number)) as run, pytest.warns(UserWarning, match="that no key reaches"):
        run.model(rows(3))


def test_numbers_of_torchs_that_have_no_rule_are_drawn_by_the_key():
    class Gumbel(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.gumbel_softmax(x)

    with pytest.warns(UserWarning, match="gumbel_softmax draws from a generator, which a trace cannot seed"):
        found = predict(Gumbel(), rows(4), samples=6, key=KEY, keep=True).draws
    with pytest.warns(UserWarning, match="gumbel_softmax"):
        part = predict(Gumbel(), rows(4)[3:], samples=6, key=KEY, keep=True, first=3).draws
    assert np.array_equal(found[:, 3:], part)


def test_nothing_of_the_model_or_of_torch_is_touched():
    model, x = mlp().train(), rows(3)
    state, flags = torch.get_rng_state(), [m.training for m in model.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(model, x, samples=3, key=KEY)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_ours_and_torchs_dropout_draw_alike():
    ours = torch.nn.Sequential(nn.Dropout(0.4), nn.DropPath(0.3))
    theirs = torch.nn.Sequential(torch.nn.Dropout(0.4), nn.StochasticDepth(0.3, "row"))
    x = torch.ones(4, 9)
    options = {"samples": 6, "key": KEY, "keep": True}
    assert np.array_equal(predict(ours, x, **options).draws, predict(theirs, x, **options).draws)
    assert functional.dropout.__wrapped__ is not functional.dropout
