"""`Predictor`: the bits of `predict`, whatever happens to the model between its calls."""

import contextlib
import copy
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import thinned
from thinned import mc

KEY = thinned.Key(5)


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, outputs)
    )


def inputs(rows=2):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))


def assert_same(predictor, x, **options):
    """As `predict` gives it now; twice, for the second call with the same shapes is run in another way."""
    asked = {"samples": predictor.samples, "key": KEY, "outputs": predictor.outputs, **options}
    wanted = mc.predict(predictor.model, x, **asked)
    for _ in range(3):
        found = predictor(x, **options)
        for name in ("mean", "std", "samples"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        np.testing.assert_array_equal(found.standard_error.mean, wanted.standard_error.mean)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(one, marks=pytest.mark.full)
            for one in (
                {"shared": True},
                {"outputs": "logits"},
                {"memory": 4096},
                {"tolerance": 0.2},
                {"keep": True},
            )
        ),
    ],
    ids=str,
)
def test_a_predictor_has_the_bits_of_predict(options):
    predictor = mc.Predictor(network(), samples=12, key=KEY, **options)
    wanted = mc.predict(predictor.model, inputs(), samples=12, key=KEY, **options)
    for _ in range(3):
        found = predictor(inputs())
        np.testing.assert_array_equal(found.mean, wanted.mean)
        np.testing.assert_array_equal(found.std, wanted.std)
        np.testing.assert_array_equal(found.samples, wanted.samples)
        if found.draws is not None:
            np.testing.assert_array_equal(found.draws, wanted.draws)
    assert predictor.traces == 1


def test_samples_rows_keys_and_first_may_differ_from_call_to_call():
    predictor = mc.Predictor(network(), samples=10, key=KEY)
    for rows, samples, first in [(1, 10, 0), (3, 10, 0), (3, 7, 0), (3, 7, 5), (1, 10, 0)]:
        assert_same(predictor, inputs(rows), samples=samples, first=first)
    other = predictor(inputs(), key=thinned.Key(6))
    np.testing.assert_array_equal(
        other.mean, mc.predict(predictor.model, inputs(), samples=10, key=thinned.Key(6)).mean
    )
    assert predictor.traces == 1


def step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(inputs()).sum().backward()
    optimizer.step()


def assign_data(model):
    model[0].weight.data = model[0].weight.data * 2


def load(model):
    model.load_state_dict({name: one * 2 for name, one in model.state_dict().items()})


def load_assigned(model):
    model.load_state_dict({name: one * 2 for name, one in model.state_dict().items()}, assign=True)


def replace(model):
    model[4] = nn.Linear(8, 3)


def statistics(model):
    model.train()(torch.randn(16, 4))
    model.eval()


def parametrize(model):
    nn.utils.parametrizations.weight_norm(model[4]).parametrizations.weight.original0.data.mul_(2)


class Ten(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 10


# What is done to the model, and whether it has to be traced again.
CHANGES = {
    "optimizer.step": (step, False),
    "weight.data.mul_": (lambda model: model[0].weight.data.mul_(3), False),
    "weight.data =": (assign_data, True),
    "load_state_dict": (load, False),
    "load_state_dict(assign=True)": (load_assigned, True),
    "a parameter of one element": (lambda model: setattr(model[0], "bias", None), True),
    "a module": (replace, True),
    "a module put in": (lambda model: model.append(nn.Tanh()), True),
    "a rate": (lambda model: setattr(model[2], "p", 0.1), True),
    "double": (lambda model: model.double(), True),
    "requires_grad": (lambda model: model.requires_grad_(False), False),
    "train": (lambda model: model.train(), False),
    "statistics of a batch": (statistics, False),
    "a parametrization": (parametrize, True),
    "the class of the model": (lambda model: setattr(model, "__class__", Ten), True),
    "a hook": (lambda model: model[4].register_forward_hook(lambda *found: found[2] * 2), True),
}


QUICK = {"optimizer.step", "weight.data =", "load_state_dict(assign=True)", "a module", "a rate"}
QUICK |= {"the class of the model"}


def tiered(names, quick):
    return [pytest.param(one, marks=() if one in quick else pytest.mark.full) for one in names]


@pytest.mark.parametrize("name", tiered(CHANGES, QUICK))
def test_a_change_of_the_model_shows_in_the_next_call(name):
    change, again = CHANGES[name]
    model = network().eval()
    predictor = mc.Predictor(model, samples=10, key=KEY)
    before = [predictor(inputs()).mean for _ in range(3)][-1]
    change(model)
    x = inputs().to(model[0].weight.dtype)
    after = assert_same(predictor, x)
    assert (after.mean == before).all() == (name in ("requires_grad", "train"))
    if not again:
        assert predictor.traces == 1
    else:
        assert predictor.traces > 1


@pytest.mark.full
def test_half_precision_is_traced_again():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    predictor = mc.Predictor(model, samples=10, key=KEY)
    predictor(inputs())
    model.half()
    assert_same(predictor, inputs().half())


@contextlib.contextmanager
def hooked():
    handle = nn.modules.module.register_module_forward_hook(lambda *found: found[2] * 2)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "around",
    [hooked, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["hooks of all modules", "autocast"],
)
def test_what_is_set_for_all_modules_counts_as_it_is_now(around):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)).requires_grad_(False)
    predictor = mc.Predictor(model, samples=4, key=KEY)
    with around():
        inside = assert_same(predictor, inputs())
    outside = assert_same(predictor, inputs())
    assert (inside.mean != outside.mean).any()


class Holding(nn.Module):
    """A tensor that is no parameter, and deep inside; a view of it is taken once where it stays."""

    def __init__(self):
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.arange(16.0).view(4, 4)), nn.Dropout(0.5)
        self.deep = [[torch.arange(16.0).view(4, 4)]]

    def forward(self, x):
        return self.drop(x) @ self.deep[0][0].t() @ self.weight.t()


def assign_deep(model):
    model.deep[0][0].data = torch.ones(4, 4)


def turn(model):
    model.weight.requires_grad_(False).t_()  # where it was, by other strides


@pytest.mark.parametrize("change", [assign_deep, turn])
def test_tensors_that_a_trace_reads_are_found_wherever_they_come_from(change):
    model = nn.Sequential(Holding())
    predictor = mc.Predictor(model, samples=4, key=KEY)
    before = assert_same(predictor, inputs())
    change(model[0])
    assert (assert_same(predictor, inputs()).mean != before.mean).any()


class Parametrized(nn.Module):
    """What is computed of weights alone is no view of them."""

    def __init__(self):
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.ones(4)), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x) * self.weight.exp()


class Branching(Parametrized):
    """What is computed depends on a value of the weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.drop(x) * (2.0 if self.weight.item() > 0 else 3.0)


class Counting(Parametrized):
    """A number that is held in a list."""

    def __init__(self):
        super().__init__()
        self.factors = [2.0]
        self.deep = [[2.0]]

    def forward(self, x):
        return self.drop(x) * self.factors[0] * self.deep[0][0]


@pytest.mark.parametrize("kind", [Parametrized, Branching])
def test_what_is_computed_of_weights_is_as_new_as_they_are(kind):
    model = kind()
    predictor = mc.Predictor(model, samples=10, key=KEY)
    assert_same(predictor, inputs())
    model.weight.data.mul_(-1)
    assert_same(predictor, inputs())


def test_lists_are_looked_into_and_refresh_serves_what_is_deeper():
    model = Counting()
    predictor = mc.Predictor(model, samples=10, key=KEY)
    assert_same(predictor, inputs())
    model.factors[0] = 5.0
    assert_same(predictor, inputs())
    model.deep[0][0] = 7.0
    predictor.refresh()
    assert_same(predictor, inputs())


@pytest.mark.full
def test_a_model_that_cannot_be_traced_is_called_and_left_as_it_was():
    class Reading(Parametrized):
        def forward(self, x):
            return self.drop(x) * (2.0 if x.sum().item() > 0 else 3.0)

    model = Reading().train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(mc.Predictor(model, samples=4, key=KEY), inputs(3))
    assert model.training


def test_a_schedule_is_of_its_step():
    model = nn.Sequential(
        thinned.torch.nn.Dropout(thinned.torch.schedules.Late(0.5, after=3)), nn.Linear(4, 2)
    )
    predictor = mc.Predictor(thinned.torch.set_step(model, 5), samples=10, key=KEY)
    predictor(inputs())
    thinned.torch.set_step(model, 1)
    with pytest.raises(mc.SilentError):
        predictor(inputs())
    thinned.torch.set_step(model, 4)
    assert_same(predictor, inputs())


@pytest.mark.full
def test_without_a_key_every_call_draws_one():
    predictor = mc.Predictor(network(), samples=10)
    assert not (predictor(inputs()).mean == predictor(inputs()).mean).all()


@pytest.mark.full
def test_numbers_that_are_none_stay_so():
    predictor = mc.Predictor(network(), samples=10, key=KEY)
    x = inputs()
    x[1, 0] = float("nan")
    found = assert_same(predictor, x)
    assert np.isnan(found.mean[1]).all()
    assert not np.isnan(found.mean[0]).any()


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [(torch.ones(0, 4), ValueError, "no inputs"), ("words", TypeError, "x must be an array")],
)
def test_what_predict_refuses_a_predictor_refuses(x, error, words):
    with pytest.raises(error, match=words):
        mc.Predictor(network(), key=KEY)(x)


def test_arguments_are_checked_when_it_is_made():
    with pytest.raises(ValueError, match="samples must be at least 2, got 1"):
        mc.Predictor(network(), samples=1)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        mc.Predictor(len)
    with pytest.raises(ValueError, match="first must be in"):
        mc.Predictor(network())(inputs(), first=-1)


@pytest.mark.full
def test_threads_may_share_a_predictor():
    predictor = mc.Predictor(network(), samples=10, key=KEY)
    wanted = {
        seed: mc.predict(predictor.model, inputs(), samples=10, key=thinned.Key(seed)) for seed in range(4)
    }
    predictor(inputs())
    found = {}

    def ask(seed):
        found[seed] = [predictor(inputs(), key=thinned.Key(seed)).mean for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((one == wanted[seed].mean).all() for seed, means in found.items() for one in means)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"]
)
def test_a_copy_has_its_own_model_and_trace(copied):
    predictor = mc.Predictor(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), samples=4, key=KEY)
    predictor(inputs())
    other = copied(predictor)
    other.model[1].weight.data.mul_(2)
    assert_same(other, inputs())
    assert_same(predictor, inputs())
