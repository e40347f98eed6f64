"""`active`: every site of a model drops, nothing else moves, and all is put back."""

import pytest
import torch
import torch.utils.checkpoint
from mc import zoo
from mc_model_state import state
from torch.nn import functional as F

import thinned
from thinned.mc.torch import active, sites
from thinned.torch import functional, nn

CASES = zoo.CASES
DRAWS = 300


def flags(model):
    return {name: module.training for name, module in model.named_modules()}


def hooks(model):
    return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("name", CASES)
def test_every_site_is_listed_in_order_with_its_rate(name):
    case = CASES[name]
    model, x = zoo.build(case)
    found = sites(model, x, also=case.named)
    assert all(site.reached for site in found)
    assert [float(site.p) for site in found] == pytest.approx(case.rates, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_each_site_alone_spreads_under_no_grad(name):
    case = CASES[name]
    for k, p in enumerate(case.p):
        model, x = zoo.build(case, case.alone(k))
        with torch.no_grad(), active(model, key=thinned.Key(1), also=case.named):
            draws = torch.stack([model(x).clone() for _ in range(30)])
        # As in the zoo's own test: by chance at most one run in 5e4 of another key stays still.
        assert bool(draws.std(0).any()) == (p > 0), k


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_moves_and_all_is_put_back(name):
    case = CASES[name]
    model, x = zoo.build(case)
    model.train(name == "modules")
    before, told, hooked, given = state(model), flags(model), hooks(model), x.clone()
    generator = torch.get_rng_state()
    with torch.no_grad(), active(model, key=thinned.Key(1), also=case.named):
        model(x)
        model(x)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert flags(model) == told
    assert hooks(model) == hooked
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), generator)


def test_all_is_put_back_after_an_exception():
    model, x = zoo.build(CASES["batch norm"])
    model.train()
    told, hooked = flags(model), hooks(model)

    class Mine(Exception):
        pass

    def interrupted():
        with active(model):
            model(x)
            raise Mine

    with pytest.raises(Mine):
        interrupted()
    with pytest.raises(RuntimeError), active(model) as run:
        model(x[:, :1])
    assert flags(model) == told
    assert hooks(model) == hooked
    assert run.inside == []
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", ["encoder", "lstm", "batch norm", "guarded"])
def test_the_spread_is_that_of_training(name):
    """Means and variances of 300 samples against torch's own; |z| < 5 for all outputs together."""
    case = CASES[name]
    model, x = zoo.build(case)
    theirs = zoo.reference(model, x, DRAWS, seed=3).flatten(1).double()
    with torch.no_grad(), active(model, key=thinned.Key(5), also=case.named):
        ours = torch.stack([model(x).clone() for _ in range(DRAWS)]).flatten(1).double()
    error = torch.sqrt((ours.var(0) + theirs.var(0)) / DRAWS)
    assert ((ours.mean(0) - theirs.mean(0)) / error).abs().max() < 5  # 150 outputs at most: 1e-4 by chance
    fourth = ((ours - ours.mean(0)) ** 4).mean(0)
    of_variance = torch.sqrt(2 * (fourth - ours.var(0) ** 2) / DRAWS)
    assert ((ours.var(0) - theirs.var(0)) / of_variance).abs().max() < 5


def test_masks_are_those_of_the_rule():
    key, p = thinned.Key(7), 0.4
    model = torch.nn.Sequential(torch.nn.Dropout(p), torch.nn.Identity(), torch.nn.Dropout(p)).eval()
    x = torch.ones(3, 50)
    with active(model, key=key) as run:
        first, second = model(x), model(x)
        run.sample = 0
        again = model(x)
    for k, y in enumerate((first, second)):
        want = x
        for n in range(2):
            want = functional.dropout(want, p, True, key=key.fold(k).fold(n))
        assert torch.equal(y, want)
    assert torch.equal(first, again)


def test_in_place_dropout_writes_to_its_input():
    model = torch.nn.Dropout(0.5, inplace=True).eval()
    x = torch.ones(100)
    with active(model):
        y = model(x)
    assert y is x
    assert (x == 0).any()


def test_without_a_key_torchs_generator_decides():
    model, x = torch.nn.Dropout(0.5).eval(), torch.ones(100)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with active(model):
            found.append(model(x))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_keyed_and_scheduled_layers_draw_anew_at_each_call():
    model = thinned.torch.keyed(torch.nn.Sequential(nn.Dropout(0.5)), seed=1).eval()
    with active(model, key=thinned.Key(2)):
        a, b = model(torch.ones(100)), model(torch.ones(100))
    assert not torch.equal(a, b)


def by_name(x, mean, variance, training):
    return F.batch_norm(x, mean, variance, training=training)


def by_place(x, mean, variance, training):
    return F.batch_norm(x, mean, variance, None, None, training)


def by_torch(x, mean, variance, training):
    return torch.batch_norm(x, None, None, mean, variance, training, 0.1, 1e-5, False)


@pytest.mark.parametrize("norm", [by_name, by_place, by_torch])
def test_batch_norm_in_a_module_that_is_told_to_train_evaluates(norm):
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_rate = 0.3
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("variance", torch.ones(4))

        def forward(self, x):
            x = norm(x, self.mean, self.variance, self.training)
            return F.dropout(x, self.drop_rate) if self.training else x

    model, x = Block().eval(), torch.randn(8, 4) + 3
    before = state(model)
    with active(model):
        y = model(x)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    kept = y != 0
    torch.testing.assert_close(y[kept], (x / (1 + 1e-5) ** 0.5 / 0.7)[kept])


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize("packed", [False, True])
def test_layers_one_by_one_are_those_at_once(kind, packed):
    """With a probability that rounds to none: states of all layers and directions, any lengths."""
    torch.manual_seed(0)
    model = kind(4, 6, 3, dropout=1e-12, bidirectional=True).eval()
    x, state = torch.randn(5, 2, 4), torch.randn(6, 2, 6)
    hx = (state, torch.randn(6, 2, 6)) if kind is torch.nn.LSTM else state
    if packed:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 5]), enforce_sorted=False)
    want, last = model(x, hx)
    with active(model) as run:
        found, after = model(x, hx)
    assert [site.kind for site in run.sites] == [kind.__name__.lower().replace("rnn", "rnn_tanh")] * 2
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(after, last)


@pytest.mark.parametrize("name", ["lstm", "encoder", "our lstm", "drop path"])
def test_gradients_flow(name):
    case = CASES[name]
    model, x = zoo.build(case)
    with active(model, key=thinned.Key(1), also=case.named):
        model(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
def test_compiled_code_runs_as_it_was_written():
    torch.compiler.reset()
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).eval(), torch.ones(3, 4)
    compiled = torch.compile(model, backend="eager")
    want = compiled(x)
    for one in (compiled, model):
        with active(one, key=thinned.Key(1)):
            a, b = one(x), one(x)
        assert not torch.equal(a, b)
        if one is compiled:
            model.compile(backend="eager")
    assert torch.equal(compiled(x), want)
    torch.compiler.reset()


def test_what_a_module_holds_and_nothing_uses_is_listed():
    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)
            self.path = torch.nn.Dropout(0.25)

        def forward(self, x):
            return self.inner(x)

    (found,) = sites(Silent(), torch.ones(2, 4))
    assert (found.name, found.p, found.reached) == ("path", 0.25, False)
    assert str(found) == "path: Dropout p=0.25, nothing drew by its p"


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch's, of an LSTM's weights
def test_an_exported_program_draws():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.Dropout(0.3),
        torch.nn.AlphaDropout(0.2),
        torch.nn.LSTM(8, 8, 2, dropout=0.4, batch_first=True),
    ).eval()
    program = torch.export.export(model, (torch.randn(3, 5, 4),)).module()
    found = sites(program, torch.randn(3, 5, 4))
    assert [site.p for site in found] == [0.3, 0.2, 0.4]


def test_a_name_that_no_module_has_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with (
        pytest.raises(ValueError, match="also='path' is no module of the model: its modules are 0"),
        active(model, also=["path"]),
    ):
        pass
    with (
        pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got builtin_function_or_method"),
        active(len),
    ):
        pass
