"""Keys of a model: by name and step, with nothing to save."""

import copy
import pickle

import pytest
import torch

from thinned import Key
from thinned.torch import functional, keyed, nn, set_step
from thinned.torch.schedules import Early, Late, Linear, Schedule

X = torch.ones(4, 200)


def network(p=0.5):
    return torch.nn.Sequential(nn.Dropout(p), torch.nn.Sequential(nn.Dropout(p)))


def test_a_sites_key_is_seed_name_and_step():
    model = keyed(network(), 7)
    for step in (0, 3, 2**40):
        set_step(model, step)
        inner = functional.dropout(X, 0.5, True, key=Key(7).fold("1.0").fold(step))
        outer = functional.dropout(X, 0.5, True, key=Key(7).fold("0").fold(step))
        assert torch.equal(model[0](X), outer)
        assert torch.equal(model[1](X), inner)
        assert not torch.equal(inner, outer)


def test_calls_of_one_site_in_one_step_are_told_apart():
    layer = keyed(torch.nn.Sequential(nn.Dropout(0.5)), 7)[0]
    assert torch.equal(layer(X), layer(X))
    assert torch.equal(
        layer(X, call=1), functional.dropout(X, 0.5, True, key=Key(7).fold("0").fold(0).fold(1))
    )
    assert not torch.equal(layer(X, call=0), layer(X))
    assert not torch.equal(layer(X, call=0), layer(X, call=1))


def test_a_resumed_run_has_the_masks_that_it_would_have_had():
    def run(model, steps):
        return [set_step(model, n)(X) for n in steps]

    whole = run(keyed(network(), 7), range(6))
    resumed = keyed(network(), 7)
    resumed.load_state_dict(keyed(network(), 7).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], run(resumed, [4, 5]), strict=True))


def test_no_generator_is_touched():
    model = keyed(network(), 7)
    before = torch.get_rng_state()
    model(X)
    assert torch.equal(torch.get_rng_state(), before)
    keyed(model, None)(X)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_key_stands_for_its_seed():
    assert torch.equal(keyed(network(), Key(7))(X), keyed(network(), 7)(X))
    assert not torch.equal(keyed(network(), Key(7, 1))(X), keyed(network(), 7)(X))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_draw_alike_and_step_alone(again):
    model = set_step(keyed(network(), 7), 3)
    other = again(model)
    assert torch.equal(other(X), model(X))
    set_step(other, 4)
    assert not torch.equal(other(X), model(X))
    assert other[0].step is other[1][0].step


def test_nothing_of_it_is_in_the_models_state():
    model = keyed(network(), 7)
    assert model.state_dict() == {}
    assert list(model.buffers()) == []
    assert repr(model) == repr(network())
    model.double().to("cpu")
    assert torch.equal(model(X), keyed(network(), 7)(X))


def test_a_model_without_sites_is_refused():
    with pytest.raises(ValueError, match="model has no site"):
        keyed(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match=r"convert\(model\)"):
        set_step(torch.nn.Sequential(torch.nn.Dropout()), 1)


def test_layers_of_torch_beside_ours_are_named():
    with pytest.warns(UserWarning, match="1 draw from torch's generator"):
        keyed(torch.nn.Sequential(nn.Dropout(), torch.nn.Dropout()), 1)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must be in"):
        keyed(network(), seed)


@pytest.mark.parametrize(
    ("n", "error"), [(-1, ValueError), (2**60, ValueError), (1.5, TypeError), ("1", TypeError)]
)
def test_step_out_of_range(n, error):
    with pytest.raises(error, match="n must be"):
        set_step(network(), n)


def test_a_step_may_be_a_tensor():
    model = keyed(network(), 7)
    assert torch.equal(set_step(model, torch.tensor(5))(X), set_step(model, 5)(X))


SCHEDULES = [Linear(0.1, 0.9, 7), Linear(0.9, 0.0, 3), Early(0.3, 4), Late(0.3, 4)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_is_the_same_number_and_tensor(schedule):
    for n in range(12):
        number, tensor = schedule(n), schedule(torch.tensor(n))
        assert isinstance(number, float)
        assert tensor.dtype == torch.float64
        assert tensor.item() == number


def test_a_layers_p_follows_its_schedule():
    model = keyed(network(Linear(0.0, 1.0, 10)), 7)
    assert set_step(model, 0)(X) is X
    assert not set_step(model, 10)(X).any()
    half = set_step(model, 5)[0](X)
    assert torch.equal(half, functional.dropout(X, 0.5, True, key=Key(7).fold("0").fold(5)))
    assert "p=Linear(start=0.0, end=1.0, steps=10)" in repr(model[0])


def test_a_schedule_without_keys_needs_only_a_step():
    model = network(Late(1.0, 5))
    with pytest.raises(RuntimeError, match="set_step"):
        model(X)
    assert set_step(model, 4)(X) is X
    assert not set_step(model, 5)(X).any()


def test_a_schedule_of_ones_own():
    class Alternating(Schedule):
        def at(self, step):
            return float(step % 2)

        def at_tensor(self, step):
            return (step % 2).double()

    model = network(Alternating())
    assert set_step(model, 2)(X) is X
    assert not set_step(model, 3)(X).any()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Linear(-0.1, 0.5, 3), "start must be in"),
        (lambda: Linear(0.1, 1.5, 3), "end must be in"),
        (lambda: Linear(0.1, 0.5, 0), "steps must be positive"),
        (lambda: Early(2.0, 3), "p must be in"),
        (lambda: Late(0.5, 0), "after must be positive"),
    ],
)
def test_a_schedule_that_is_none(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_a_probability_for_each_sample():
    p = torch.tensor([0.0, 0.25, 1.0, 0.5])[:, None]
    mode = {"inverted": [], "classic": []}
    for name, rows in mode.items():
        y = functional.dropout(X, p, True, key=Key(1), mode=name)
        whole = [functional.dropout(X, q.item(), True, key=Key(1), mode=name) for q in p]
        rows += [torch.equal(y[i], whole[i][i]) for i in range(4)]
        assert all(rows), name
    layer = nn.Dropout(p)
    torch.manual_seed(1)
    y = layer(X)
    assert y[0].all()
    assert not y[2].any()
    assert layer.eval()(X) is X


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 1, 300), (4, 5, 1), (1, 5, 300)])
def test_probabilities_along_any_dimensions(shape, dtype):
    """By kernel calls where each is worth one, by torch's own operators where not: the same bits."""
    x = torch.randn(4, 5, 300).to(dtype)
    p = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shard = {"global_shape": (9, 9, 999), "start": (2, 3, 500), "noise_shape": (None, None, 1)}
    for more in ({}, shard):
        y = functional.dropout(x, p, True, key=Key(2**63, 5), **more)
        for index in [(0, 0, 0), (3, 4, 299), (1, 2, 150)]:
            each = p.expand(x.shape)[index].item()
            assert torch.equal(y[index], functional.dropout(x, each, True, key=Key(2**63, 5), **more)[index])


def test_probabilities_that_do_not_fit_or_have_a_gradient():
    with pytest.raises(ValueError, match=r"p of shape \(4,\) does not fit input of shape \(4, 200\)"):
        functional.dropout(X, torch.ones(4) / 2, True)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        functional.dropout(X, torch.tensor([0.5, 0.5, 0.5, 1.5])[:, None], False)
    with pytest.raises(ValueError, match="p has no gradient"):
        functional.dropout(X, torch.tensor(0.5, requires_grad=True), True)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        nn.Dropout(torch.tensor([0.5, float("nan")]))


def test_a_key_as_a_tensor():
    bits = torch.tensor([5, -(2**63)])
    assert torch.equal(
        functional.dropout(X, 0.5, True, key=bits), functional.dropout(X, 0.5, True, key=Key(5, 2**63))
    )
    with pytest.raises(TypeError, match="key as a tensor must be int64"):
        functional.dropout(X, 0.5, True, key=torch.ones(2))


def test_a_key_without_a_step_is_the_key_of_the_mask():
    layer = nn.Dropout(0.5)
    layer.give_key(Key(3), None)
    x = torch.ones(100)
    want = functional.dropout(x, 0.5, True, key=Key(3))
    assert torch.equal(layer(x), want)
    assert torch.equal(torch.compile(layer, backend="aot_eager")(x), want)
