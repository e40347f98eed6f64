"""What of a model draws without a key: `keyed` says it of modules, with `check` of everything that runs."""

import random
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch_models import MODELS, build

from thinned.torch import convert, functional, keyed, nn


def attend(module, q, k, v, dropout):
    """As transformers' `sdpa_attention_forward`: a function that the model looks up as it runs."""
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)


INTERFACES = {"sdpa": attend}


class SelfAttention(torch.nn.Module):
    """As transformers' BertSelfAttention: a dropout module whose p is handed to a function out of a table."""

    def __init__(self, kind="sdpa"):
        super().__init__()
        self.qkv, self.dropout = torch.nn.Linear(8, 24), torch.nn.Dropout(0.1)
        self.kind = kind

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        interface = INTERFACES[self.kind]
        return interface(self, q, k, v, dropout=0.0 if not self.training else self.dropout.p)


def helper(x):
    return inner(x)


def inner(x):
    return F.dropout(x, 0.3)


class ByHelper(torch.nn.Module):
    def forward(self, x):
        return helper(x)


class ByLine(torch.nn.Module):
    """A forward that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def scripted():
    class Scripted(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.dropout(x, 0.5, True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch.jit.script(Scripted())


# What draws without a key, and a word of how it is named. The input is of shape (2, 3, 8).
DRAWS = {
    "functional dropout": (lambda: ByLine(lambda x: F.dropout(x, 0.5)), "bernoulli_"),
    "dropout2d": (lambda: ByLine(lambda x: F.dropout2d(x[:, :, None], 0.5)), "bernoulli_"),
    "attention": (
        lambda: ByLine(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)),
        "bernoulli_",
    ),
    "attention by a table": (SelfAttention, r"1 \(SelfAttention\)"),
    "a module": (lambda: torch.nn.Dropout(0.5), r"1 \(Dropout\)"),
    "MultiheadAttention": (lambda: ByAttention(0.5), r"1.attention \(MultiheadAttention\)"),
    "LSTM": (lambda: torch.nn.LSTM(8, 4, 2, dropout=0.5), r"1 \(LSTM\)"),
    "GRU": (lambda: torch.nn.GRU(8, 4, 2, dropout=0.5), r"1 \(GRU\)"),
    "a drop path by hand": (lambda: ByLine(lambda x: x * x.new_empty(2, 1, 1).bernoulli_(0.5)), "bernoulli_"),
    "a layer drop": (lambda: ByLine(lambda x: x if torch.rand([]) < 0.5 else x + 1), "rand at test_check.py"),
    "noise": (lambda: ByLine(lambda x: x + torch.randn_like(x)), "randn_like"),
    "an uniform number": (lambda: ByLine(lambda x: x + torch.empty(3, 1).uniform_()), "uniform_"),
    "Bernoulli": (lambda: ByLine(lambda x: x * torch.distributions.Bernoulli(0.5).sample()), "bernoulli"),
    "rrelu": (lambda: torch.nn.RReLU(), "rrelu"),
    "a permutation": (lambda: ByLine(lambda x: x[torch.randperm(2)]), "randperm"),
    "compiled by torch.jit": (scripted, "bernoulli_|native_dropout"),
    "our function": (lambda: ByLine(lambda x: functional.dropout(x, 0.5, True)), "draw_key|random_"),
    "Python's random": (lambda: ByLine(lambda x: x if random.random() < 0.5 else x + 1), "Python's random"),
    "NumPy's random": (lambda: ByLine(lambda x: x + float(np.random.rand())), "numpy.random"),  # noqa: NPY002
}


class ByAttention(torch.nn.Module):
    def __init__(self, p):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(8, 2, dropout=p)

    def forward(self, x):
        return self.attention(x, x, x)[0]


X = torch.randn(2, 3, 8)


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_without_a_key_is_named(name):
    make, words = DRAWS[name]
    model = torch.nn.Sequential(nn.Dropout(0.5), make())
    with pytest.warns(UserWarning, match=rf"have no key: its masks are no function .*({words})") as told:
        keyed(model, 7, check=X)
    assert len(told) == 1
    assert "0 (Dropout)" not in str(told[0].message)


QUIET = {
    "rates of 0": lambda: torch.nn.Sequential(ByAttention(0.0), torch.nn.LSTM(8, 8, 2)),
    "attention without dropout": lambda: ByLine(lambda x: F.scaled_dot_product_attention(x, x, x)),
    "told to evaluate": lambda: ByLine(lambda x: F.dropout(x, 0.5, training=False)),
    "our layers": lambda: torch.nn.Sequential(
        nn.DropPath(0.5), nn.GaussianDropout(0.5), nn.LSTM(8, 8, 2, dropout=0.5)
    ),
    "our attention": lambda: torch.nn.Sequential(nn.AlphaDropout(0.5), nn.Dropout1d(0.5)),
    "normalisation": lambda: torch.nn.BatchNorm1d(3),
}


@pytest.mark.parametrize("name", QUIET)
def test_a_model_whose_draws_all_have_keys_is_silent(name):
    keyed(torch.nn.Sequential(nn.Dropout(0.5), QUIET[name]()), 7, check=X)


class Counts(torch.nn.Module):
    """A forward that moves everything that it can."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = torch.nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("mean", torch.zeros(3, 8))
        self.calls, self.seen = 0, []

    def forward(self, x, *, scale=1.0):
        self.calls += 1
        self.seen.append(1)
        self.mean = self.mean * 0.9 + x.mean(0)
        self.norm.register_buffer("extra", torch.ones(1))
        self.norm.eval()
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        return self.drop(self.norm(x)) * scale


@pytest.mark.parametrize("fails", [False, True])
def test_the_run_leaves_no_trace(fails):
    model = torch.nn.Sequential(Counts(), ByLine(lambda x: 1 / 0 if fails else x)).eval()
    model[0].drop.train()
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZeroDivisionError) if fails else pytest.warns(UserWarning, match="have no key"):
        keyed(model, 7, calls="count", check=X)
    counts = model[0]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (counts.calls, counts.seen) == (0, [])
    assert [model.training, counts.norm.training, counts.drop.training] == [False, False, True]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert sum(hooks) == (0 if fails else 1)  # the one that counts
    assert int(counts.drop._clock.passes) == 0
    assert all(p.grad is None for p in model.parameters())


def test_inputs_may_be_one_some_or_named():
    for inputs in (X, (X,), {"x": X, "scale": 2.0}):
        with pytest.warns(UserWarning, match="rand at test_check.py"):
            keyed(Counts(), 7, check=inputs)


def test_a_lazy_model_has_to_have_run():
    model = torch.nn.Sequential(torch.nn.LazyLinear(3), nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"check: 0.weight has no values yet: run the model once before"):
        keyed(model, 7, check=X)
    model(X)
    keyed(model, 7, check=X)


@pytest.mark.parametrize("name", MODELS)
def test_models_as_people_write_them(name):
    model, x = build(name)
    convert(model)
    told = pytest.warns(UserWarning, match="h.0.attn") if name == "gpt" else nullcontext()
    with told:
        keyed(model, 7, check=x)


def test_modules_that_hold_a_rate_are_named_without_a_run():
    layer = torch.nn.TransformerEncoderLayer(8, 2, dropout=0.1, batch_first=True)
    model = convert(
        torch.nn.Sequential(layer, torch.nn.LSTM(8, 4, 2, dropout=0.2), torch.nn.LSTM(8, 4))
    ).model
    with pytest.warns(UserWarning, match=r"^1 draw from torch's generator"):
        keyed(model, 7)


def test_helpers_and_rates_that_are_read_are_suspects():
    model = torch.nn.Sequential(ByHelper(), SelfAttention(), SelfAttention())
    model[2].dropout.p = 0.0
    suspects = convert(model).possible
    assert suspects["0"].startswith("ByHelper.forward calls helper, which calls inner, which calls F.dropout")
    assert suspects["1"].startswith("SelfAttention.forward reads self.dropout.p")
    assert "2" not in suspects


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_berts_attention(attention):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    config._attn_implementation = attention
    model = transformers.BertModel(config)
    report = convert(model)
    assert "encoder.layer.1.attention.self" in report.possible
    with pytest.warns(UserWarning, match=r"encoder.layer.1.attention.self \(BertSelfAttention\)"):
        keyed(model, 7, check={"input_ids": torch.arange(12).reshape(2, 6)})
