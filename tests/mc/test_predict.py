"""Predictions by many thinned networks: the same whatever the batch, the chunks and the memory."""

import numpy as np
import pytest
import torch
from mc import zoo
from predicted import KEY, mlp, rows
from torch.utils.data import DataLoader, TensorDataset

import thinned
from thinned.mc.torch import active, predict
from thinned.mc.torch._batch import Traced


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


# Chunks are cut by one code, whether the samples of a chunk share their keys or not.
SHARED = [False, pytest.param(True, marks=pytest.mark.full)]


@pytest.mark.parametrize("shared", SHARED)
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


@pytest.mark.parametrize("shared", SHARED)
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
