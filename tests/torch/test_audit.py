"""The audit of a model: each fault is found by its rule alone, healthy models are silent, all is put back."""

import json
import math

import pytest
import torch
import torch_models
from mc import zoo
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch_faults import FAULTS, ROWS, Counting, DropPath, Zeroing, linear, net, stuck

import thinned
from thinned._audit._calls import sampled
from thinned.torch import audit, keyed


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone(name):
    model, x = FAULTS[name]()
    assert {finding.code for finding in audit(model, x).findings} == {name.split()[0]}


@pytest.fixture
def two_ranks(monkeypatch):
    """Two ranks, of which the other has other samples and masks as a function makes them of this one's."""

    def begin(masks):
        def gather(gathered, mine):
            gathered[:] = [mine, [(name, "other", masks(bits)) for name, _, bits in mine]]

        for name, value in {
            "is_initialized": lambda: True,
            "get_world_size": lambda: 2,
            "all_gather_object": gather,
        }.items():
            monkeypatch.setattr(torch.distributed, name, value)

    return begin


def test_all_ranks_with_one_mask(two_ranks):
    two_ranks(lambda bits: bits)
    model = nn.Sequential(linear(), nn.Dropout(0.5), linear())
    assert [one.code for one in audit(model, ROWS).findings] == ["THN416"]


# What is wrong with models of the zoo, which were made for other traps.
WRONG = {
    "always": {"THN401"},
    "batch norm": {"THN411"},
    "functional in place": {"THN417"},
    "in place": {"THN417"},
    "residual in place": {"THN417"},
}


@pytest.mark.filterwarnings("ignore:.*lstm.*flatten:UserWarning")
@pytest.mark.parametrize("name", zoo.CASES)
def test_the_zoo_is_healthy(name):
    model, x = zoo.build(zoo.CASES[name])
    x = x.repeat(8, *(1,) * (x.dim() - 1))
    result = audit(model, x)
    assert {finding.code for finding in result.findings} == WRONG.get(name, set()), str(result)


HEALTHY = {
    "mlp": lambda: (nn.Sequential(linear(), nn.ReLU(), nn.Dropout(0.5), linear()), ROWS),
    "norm first": lambda: (
        nn.Sequential(linear(), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), linear()),
        ROWS,
    ),
    "classic": lambda: (nn.Sequential(thinned.torch.nn.Dropout(0.5, mode="classic"), linear()), ROWS),
    "bfloat16 of ours": lambda: (
        nn.Sequential(thinned.torch.nn.Dropout(0.1), linear()).to(torch.bfloat16),
        torch.rand(512, 32).to(torch.bfloat16) + 1,
    ),
    "checkpoint": lambda: (
        net(
            lambda self, x: checkpoint(self.inner, x, use_reentrant=False),
            inner=nn.Sequential(linear(), nn.Dropout(0.5), linear()),
        ),
        ROWS.clone().requires_grad_(),
    ),
    "converted": lambda: (
        thinned.torch.convert(nn.Sequential(linear(), nn.Dropout(0.5), linear())).model,
        ROWS,
    ),
    "no dropout": lambda: (linear(), ROWS),
    "p of 0 and 1": lambda: (nn.Sequential(nn.Dropout(0.0), nn.Dropout(1.0), linear()), ROWS),
    "frozen": lambda: (stuck().requires_grad_(False), ROWS),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_silent(name):
    model, x = HEALTHY[name]()
    assert [str(finding) for finding in audit(model, x).findings] == []


class Restoring(Zeroing):
    """As Zeroing, by a local variable."""

    def forward(self, x):
        p = self.p if self.training else 0.0
        return F.dropout(x, p, self.training)


class Same(Counting):
    """As Counting, with the mask of the forward pass."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mask = torch.bernoulli(torch.full_like(x, 0.5)) * 2
            return x * ctx.mask

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.mask


def keyed_apart():
    model = nn.Sequential(thinned.torch.nn.Dropout(0.5), linear(), thinned.torch.nn.Dropout(0.5), linear())
    return keyed(model, 1, calls="count")


# What comes near a rule's fault and is right.
NEAR = {
    "THN401": lambda: (net(lambda self, x: self.fc(F.dropout(x, 0.5, self.training)), fc=linear()), ROWS),
    "THN402": lambda: (nn.Sequential(linear(), nn.Dropout(0.0), linear()), ROWS),
    "THN403": lambda: (nn.Sequential(linear(), type("ScaledDropout", (DropPath,), {})(0.3), linear()), ROWS),
    "THN404": lambda: (nn.Sequential(linear(), nn.Dropout(0.9), linear()), ROWS),
    "THN405": lambda: (keyed_apart(), ROWS),
    "THN406": lambda: (
        keyed(
            net(
                lambda self, x: self.drop(x) + self.drop(self.fc(x)),
                drop=thinned.torch.nn.Dropout(0.5),
                fc=linear(),
            ),
            1,
            calls="count",
        ),
        ROWS,
    ),
    "THN407": lambda: (
        keyed(nn.Sequential(linear(), thinned.torch.nn.Dropout(0.5), linear()), 1, calls="count"),
        ROWS,
    ),
    "THN408": lambda: (nn.Sequential(linear(), thinned.torch.nn.DropPath(0.3), linear()), ROWS),
    "THN409": lambda: (nn.Sequential(linear(), nn.Dropout(0.5), nn.Linear(32, 5), nn.Softmax(1)), ROWS),
    "THN410": lambda: (
        nn.Sequential(linear(), nn.Dropout(0.5), nn.ReLU(), linear(), nn.Dropout(0.5), linear()),
        ROWS,
    ),
    "THN411": lambda: (nn.Sequential(linear(), nn.Dropout(0.5), nn.LayerNorm(32), linear()), ROWS),
    "THN412": lambda: (
        net(lambda self, x: self.drop(self.norm(x)), norm=nn.BatchNorm1d(32), drop=nn.Dropout(0.5)),
        ROWS,
    ),
    "THN413": lambda: (nn.Sequential(linear(), Restoring(), linear()), ROWS),
    "THN414": lambda: (nn.Sequential(linear(), type("Dropout", (Same,), {})(), linear()), ROWS),
    "THN415": HEALTHY["bfloat16 of ours"],
    "THN417": lambda: (nn.Sequential(linear(), nn.Dropout(0.5, inplace=True), linear()), ROWS),
}


@pytest.mark.parametrize("code", NEAR)
def test_what_comes_near_a_rule_is_silent(code):
    model, x = NEAR[code]()
    assert [str(finding) for finding in audit(model, x).findings] == []


def test_ranks_with_masks_of_their_own_are_silent(two_ranks):
    two_ranks(lambda bits: "other bits")
    assert not audit(nn.Sequential(linear(), nn.Dropout(0.5), linear()), ROWS).findings


def test_every_rule_has_a_fault_and_what_comes_near():
    rules = {f"THN{number}" for number in range(401, 418)}
    assert {name.split()[0] for name in FAULTS} == rules - {"THN416", "THN417"}  # ranks; the zoo
    assert set(NEAR) == rules - {"THN416"}


def test_everything_is_put_back():
    model = nn.Sequential(linear(), nn.BatchNorm1d(32), nn.Dropout(0.5), Zeroing(), linear())
    model[2].eval()
    model[0].weight.grad = torch.ones(32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    audit(model, ROWS)
    assert torch.equal(torch.rand(3), wanted)
    assert [module.training for module in model] == [True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(32, 32))
    assert model[4].weight.grad is None
    assert model[3].p == 0.5
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_a_model_that_fails_is_put_back_too():
    def forward(self, x):
        if self.training:
            raise RuntimeError("in training")
        return x

    model = net(forward)
    with pytest.raises(RuntimeError, match="in training"):
        audit(model, ROWS)
    assert model.training
    assert not torch.nn.modules.module._global_forward_hooks


def test_a_result_is_printed_and_is_plain_data(capsys):
    result = audit(nn.Sequential(linear(), nn.Dropout(0.5), nn.Dropout(0.5), linear()), ROWS)
    result.print()
    assert capsys.readouterr().out.startswith("THN410 2: Its input is what 1 has dropped")
    again = json.loads(json.dumps(result.to_dict()))
    assert again["findings"][0]["code"] == "THN410"
    assert [site["name"] for site in again["sites"]] == ["1", "2"]
    assert again["sites"][0]["dropped"] == pytest.approx(0.5, abs=0.05)
    assert "<td>THN410</td>" in result.to_html()
    assert 0 < result.share < 1
    assert bool(result)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: audit(F.dropout, ROWS), TypeError, "model must be a torch.nn.Module, got function"),
        (lambda: audit(linear(), ROWS, repeats=1), ValueError, "repeats must be at least 2, got 1"),
        (lambda: audit(linear(), ROWS, repeats=2.5), TypeError, "repeats must be an integer, got 2.5"),
    ],
)
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("name", torch_models.MODELS)
def test_models_as_people_write_them(name):
    """A residual block with dropout between its convolutions does shift the variance behind it: 1.4 times."""
    model, x = torch_models.build(name)
    result = audit(model, x.repeat(16, *(1,) * (x.dim() - 1)))
    assert {one.code for one in result.findings} == ({"THN411"} if name == "resnet" else set()), str(result)


def test_a_bert_of_transformers():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    words = torch.randint(50, (16, 12), generator=torch.Generator().manual_seed(1))
    result = audit(transformers.BertModel(config), words)
    assert [str(one) for one in result.findings] == []
    assert len(result.sites) == 7  # the embeddings', and three for each layer


@pytest.mark.parametrize(
    "shape", [(), (0, 5), (3,), (4096, 512), (256, 197, 768), (8, 3, 1024, 1024), (1, 1, 2**22), (10,) * 7]
)
def test_a_large_array_is_looked_at_in_a_sample_that_keeps_samples_and_channels(shape):
    cut = [len(range(*each.indices(size))) for each, size in zip(sampled(shape), shape, strict=True)]
    assert math.prod(cut) <= 2**18
    assert math.prod(cut) > 2**16 or cut == list(shape)
    assert cut[:2] == list(shape[:2]) or len(shape) != 4


@pytest.mark.parametrize("code", ["THN402", "THN403", "THN404", "THN407", "THN408"])
def test_faults_are_found_in_a_sample_too(code):
    model, _ = FAULTS[code]()
    x = torch.randn(16384, 32, generator=torch.Generator().manual_seed(0))
    result = audit(model, x, repeats=2)
    assert {finding.code for finding in result.findings} == {code}
    assert result.sites[0]["shape"] == (16384, 32)
