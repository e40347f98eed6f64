"""torch.nn's dropout modules turned into ours, back, and taken out."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch_models import MODELS, build

import thinned
from thinned import Key
from thinned.torch import convert, keyed, set_step, strip, unconvert
from thinned.torch import nn as ours
from thinned.torch._site import Site

CLASSES = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]

SWAPPED = {
    "resnet": {"layer1.0.drop", "layer1.1.drop", "dropout"},
    "gpt": {
        "drop",
        *(f"h.{i}.{name}" for i in (0, 1) for name in ("attn.attn_dropout", "attn.resid_dropout")),
        *(f"h.{i}.mlp.{j}" for i in (0, 1) for j in (2, 4)),
    },
    "vit": {
        *("pos_drop", "head_drop"),
        *(f"blocks.{i}.attn.{name}" for i in (0, 1) for name in ("attn_drop", "proj_drop")),
        *(f"blocks.{i}.mlp.{name}" for i in (0, 1) for name in ("drop1", "drop2")),
    },
    "encoder": {
        "head.0",
        *(
            f"encoder.layers.{i}.{name}"
            for i in (0, 1)
            for name in ("self_attn", "dropout", "dropout1", "dropout2")
        ),
    },
}
SUSPECTS = {"gpt": {"h.0.attn", "h.1.attn"}}


# These matrices are too small for two, which wait for each other on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")

every_model = pytest.mark.parametrize("name", MODELS)


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def torchs(model):
    """The names of dropout modules that are not ours."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.modules.dropout._DropoutNd, nn.MultiheadAttention))
        and not isinstance(module, Site)
    }


def evaluations(model, x):
    """With gradients and without: torch's encoder takes another path in each."""
    model.eval()
    with torch.no_grad():
        return model(x), model(x.clone())


def equal(some, others):
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@every_model
def test_what_is_swapped_left_and_suspected(name):
    model, _ = build(name)
    before = torchs(model)
    report = convert(model)
    assert report.model is model
    assert set(report.swapped) == SWAPPED[name] == before
    assert report.left == {}
    assert set(report.possible) == SUSPECTS.get(name, set())
    assert not torchs(model)
    for site in report.swapped:
        module = model.get_submodule(site)
        assert type(module) is getattr(ours, report.swapped[site].rpartition(".")[2])


@every_model
def test_evaluation_and_state_are_the_same_to_the_bit(name):
    model, x = build(name)
    original = copy.deepcopy(model)
    convert(model)
    assert repr(model) == repr(original)
    assert same_state(model, original)
    assert equal(evaluations(model, x), evaluations(original, x))
    assert torch.equal(model(x), original(x))  # where gradients are recorded
    model.load_state_dict(original.state_dict())


@every_model
def test_a_converted_model_draws_by_its_keys(name):
    """Each site's output is NumPy's for the key of its name and step."""
    model, x = build(name)
    swapped = [site for site in convert(model).swapped if not site.endswith("self_attn")]  # test_multihead.py
    keyed(model.train(), seed=5)
    seen = []

    def check(site, step):
        def hook(module, inputs, output):
            given = inputs[0].detach()
            noise = (*given.shape[:2], 1, 1) if isinstance(module, nn.Dropout2d) else None
            key = Key(5).fold(site).fold(step)
            wanted = thinned.dropout(given.numpy(), module.p, key=key, training=True, noise_shape=noise)
            assert np.array_equal(output.detach().numpy(), wanted)
            assert (wanted == 0).any()
            seen.append(site)

        return hook

    for step in (0, 3):
        set_step(model, step)
        handles = [model.get_submodule(s).register_forward_hook(check(s, step)) for s in swapped]
        model(x)
        for handle in handles:
            handle.remove()
    called = {site for site in swapped if not site.endswith("attn_dropout")}
    assert sorted(seen) == sorted([*called, *called])


@every_model
def test_back_again(name):
    model, x = build(name)
    original = copy.deepcopy(model)
    convert(model)
    report = unconvert(model)
    assert set(report.swapped) == SWAPPED[name]
    assert not report.left
    assert not any(isinstance(module, Site) for module in model.modules())
    for (path, module), before in zip(model.named_modules(), original.modules(), strict=True):
        assert type(module) is type(before), path
        assert set(vars(module)) == set(vars(before)), path
    assert same_state(model, original)
    assert equal(evaluations(model, x), evaluations(original, x))
    torch.manual_seed(3)
    one = model.train()(x)
    torch.manual_seed(3)
    assert torch.equal(one, original.train()(x))


@every_model
@pytest.mark.parametrize("verb", [convert, strip])
def test_a_copy_leaves_the_original(name, verb):
    model, x = build(name)
    types = [type(module) for module in model.modules()]
    numbers = [dict(vars(module)).get("dropout") for module in model.modules()]
    report = verb(model, copy=True)
    assert report.model is not model
    assert [type(module) for module in model.modules()] == types
    assert [dict(vars(module)).get("dropout") for module in model.modules()] == numbers
    assert equal(evaluations(report.model, x), evaluations(model, x))
    assert same_state(report.model, model)


@every_model
@pytest.mark.parametrize("ours_first", [False, True])
def test_strip(name, ours_first):
    model, x = build(name)
    original = copy.deepcopy(model)
    if ours_first:
        convert(model)
    report = strip(model)
    holders = {path: f"{path}.dropout" for path in SWAPPED[name] if path.endswith("self_attn")}
    assert set(report.removed) == {holders.get(path, path) for path in SWAPPED[name]}
    assert not report.left
    assert set(report.possible) == SUSPECTS.get(name, set())
    assert not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())
    assert same_state(model, original)
    assert equal(evaluations(model, x), evaluations(original, x))
    assert torch.equal(model(x), original(x))
    # Not even in training is there any randomness left, gpt's number included, which its forward reads.
    state = torch.get_rng_state()
    assert torch.equal(model.train()(x), model(x))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_every_class_keeps_what_it_had(kind, training, inplace):
    module = getattr(nn, kind)(0.3, inplace).train(training)
    module.label = "mine"
    calls = []
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    report = convert(module)
    assert report.model is module
    assert report.swapped == {"(the model)": f"thinned.torch.nn.{kind}"}
    assert type(module) is getattr(ours, kind)
    inplace = inplace and "Alpha" not in kind  # torch has the argument there, and does not obey it
    kept = (0.3, inplace, training, "mine")
    assert (module.p, module.inplace, module.training, module.label) == kept
    x = torch.ones(2, 3, *(4,) * {"Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3}.get(kind, 1))
    assert (module(x) is x) == (inplace or not training)
    handle.remove()
    assert convert(module).swapped == {}
    module(x)
    assert calls == [1]
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(made) is type(module)
        assert vars(made).keys() == vars(module).keys()
    unconvert(module)
    assert type(module) is getattr(nn, kind)
    assert (module.p, module.inplace, module.training, module.label) == kept


def test_a_shared_module_stays_one():
    drop = nn.Dropout(0.5)
    block = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1))
    model = nn.ModuleDict({"a": drop, "b": nn.Sequential(drop, block), "c": block})
    by_hand = [drop]  # a reference that no registry knows
    report = convert(model)
    assert set(report.swapped) == {"a", "b.0", "b.1.1", "c.1"}
    assert model["a"] is model["b"][0] is by_hand[0]
    assert type(by_hand[0]) is ours.Dropout
    assert set(strip(model).removed) == {"a", "b.0", "b.1.1", "c.1"}
    assert type(by_hand[0]) is nn.Identity


def test_a_compiled_model_notices():
    model = nn.Sequential(nn.Dropout(0.5))
    compiled = torch.compile(model, backend="eager")
    x = torch.ones(1000)
    compiled(x)
    assert list(convert(compiled).swapped) == ["_orig_mod.0"]
    keyed(model, seed=2)
    wanted = thinned.dropout(x.numpy(), 0.5, key=Key(2).fold("0").fold(0), training=True)
    assert np.array_equal(compiled(x).numpy(), wanted)


class Marked(nn.Dropout):
    """Nothing but a name."""

    def __init__(self, p):
        super().__init__(p)
        self.note = "kept"


class Stubborn(nn.Dropout):
    """A forward of its own."""

    def forward(self, input):
        return super().forward(input) * 2


def test_subclasses():
    patched = nn.Dropout(0.2)
    patched.forward = lambda x: x
    model = nn.ModuleDict({"marked": Marked(0.3), "stubborn": Stubborn(0.3), "patched": patched})
    report = convert(model)
    assert report.swapped == {"marked": "thinned.torch.nn.Dropout"}
    assert type(model["marked"]) is ours.Dropout
    assert model["marked"].note == "kept"
    assert model["marked"].p == 0.3
    assert report.left == {
        "stubborn": "Stubborn is a torch.nn.Dropout with its own forward: exchange it by hand",
        "patched": "Dropout is a torch.nn.Dropout with its own forward: exchange it by hand",
    }
    assert strip(model).left == report.left
    assert type(model["stubborn"]) is Stubborn


def test_p_that_was_set_wrong_is_left():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model[0].p = 1.5
    report = convert(model)
    assert report.left == {"0": "p must be in [0, 1], got 1.5: set it, then convert again"}
    assert list(report.swapped) == ["1"]


def test_numbers_are_named_with_their_remedy():
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4, 2, dropout=0.2),
            "gru": nn.GRU(3, 4, 2, dropout=0.3),
            "rnn": nn.RNN(3, 4, 2, dropout=0.4),
            "plain": nn.LSTM(3, 4, 2),
            "attention": nn.MultiheadAttention(4, 2, dropout=0.1),
        }
    )
    left = convert(model).left
    assert set(left) == {"lstm", "gru", "rnn"}
    for name, rate in {"lstm": 0.2, "gru": 0.3, "rnn": 0.4}.items():
        assert f"holds dropout={rate} as a number: " in left[name]
    if hasattr(ours, "LSTM"):
        assert "thinned.torch.nn.LSTM(…, locked=False)" in left["lstm"]
        assert "thinned.torch.nn.GRU(…, locked=False)" in left["gru"]
    assert "thinned.torch.nn.Dropout between them" in left["rnn"]
    report = strip(model)
    assert report.removed == {
        "lstm.dropout": "0.2",
        "gru.dropout": "0.3",
        "rnn.dropout": "0.4",
        "attention.dropout": "0.1",
    }
    assert not any(module.dropout for module in model.values())


def test_the_old_name_of_what_is_possible_warns():
    report = convert(torch.nn.Sequential(torch.nn.LSTM(4, 4)))
    with pytest.warns(DeprecationWarning, match=r"report\.suspects is now report\.possible"):
        assert report.suspects is report.possible
