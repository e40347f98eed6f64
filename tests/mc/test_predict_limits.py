"""What a prediction computes once, how much memory it takes, and when it stops."""

import gc
import weakref

import numpy as np
import pytest
import torch
from mc import zoo
from predicted import KEY, mlp, rows
from torch.utils._python_dispatch import TorchDispatchMode

import thinned
from thinned.mc.torch import predict


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
        ("channels", 200_000),
        # One code counts, of operators whatever they are: these take two seconds each.
        *(
            pytest.param(*case, marks=pytest.mark.full)
            for case in (("encoder", 2_000_000), ("lstm", 300_000), ("batch norm", 400_000))
        ),
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
