"""The zoo itself: each probability of each model moves its output, and nothing else does."""

import pytest
import torch
from mc import zoo
from torch.utils._python_dispatch import TorchDispatchMode

CASES = {**zoo.CASES, **zoo.SILENT}


@pytest.mark.parametrize("name", CASES)
def test_every_probability_is_seen(name):
    case = CASES[name]
    for k, p in enumerate(case.p):
        draws = zoo.reference(*zoo.build(case, case.alone(k)), 30)
        # The seed is fixed. With others, one decision a batch at p = 0.3 stays still in 0.7³⁰ = 2e-5 of runs.
        assert bool(draws.std(0).any()) == (p > 0)


@pytest.mark.parametrize("name", CASES)
def test_without_any_it_is_still(name):
    case = CASES[name]
    model, x = zoo.build(case, (0.0,) * len(case.p))
    assert not zoo.reference(model, x, 3).std(0).any()
    with torch.no_grad():
        # The fused paths of evaluation round otherwise.
        torch.testing.assert_close(zoo.reference(model, x, 1)[0], model(x))


@pytest.mark.parametrize("name", CASES)
def test_the_reference_moves_nothing(name):
    model, x = zoo.build(CASES[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = x.clone()
    zoo.reference(model, x, 3)
    assert torch.equal(x, given)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Drawn(TorchDispatchMode):
    """What torch itself draws, beneath all of its layers; 0.5 is the default of `bernoulli_`."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in func.tags:
            known = func is torch.ops.aten.bernoulli_.float
            self.rates.append(1 - (args[1] if len(args) > 1 else 0.5) if known else None)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.keyed])
def test_rates_are_those_that_torch_draws_in_that_order(name):
    case = CASES[name]
    model, x = zoo.build(case)
    with torch.no_grad(), zoo.training(model), Drawn() as drawn:
        model(x)
    # Of uniform numbers, and of a tensor of chances, only the count is seen here.
    due = [None if name in ("floored drop path", "nameless path") else pytest.approx(p) for p in case.rates]
    assert drawn.rates == due
