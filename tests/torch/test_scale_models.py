"""A change of convention: whole models, hooks, and weights that are computed."""

import re

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch_models import MODELS, build
from torch_scaled_models import ROUNDING, lin, modes, outputs, weights

from thinned.torch import convert, strip, to_classic, to_inverted
from thinned.torch.nn import Dropout, Dropout2d, drop_connect

# These matrices are too small for two, which wait for each other on a busy machine.
pytestmark = pytest.mark.usefixtures("one_thread")

MODEL_SITES = {
    "resnet": (
        {"dropout": "fc.weight × 2"},
        {"layer1.0.drop": "no classic mode", "layer1.1.drop": "no classic mode"},
    ),
    "vit": (
        {
            "head_drop": "head.weight × 1.66667",
            "blocks.0.mlp.drop1": "blocks.0.mlp.fc2.weight × 1.11111",
            "blocks.1.mlp.drop1": "blocks.1.mlp.fc2.weight × 1.11111",
        },
        {
            "pos_drop": r"feeds (blocks.0.norm1, a LayerNorm|add\(…\))",
            **{f"blocks.{i}.attn.attn_drop": r"feeds matmul\(…\)" for i in (0, 1)},
            **{f"blocks.{i}.attn.proj_drop": r"feeds add\(…\)" for i in (0, 1)},
            **{f"blocks.{i}.mlp.drop2": r"feeds (add\(…\)|blocks.1.norm1|norm)" for i in (0, 1)},
        },
    ),
    # torch.fx cannot trace its generator over chunks: what is left are the blocks' nn.Sequentials.
    "gpt": (
        {f"h.{i}.mlp.2": f"h.{i}.mlp.3.weight × 1.11111" for i in (0, 1)},
        {
            "drop": "in no nn.Sequential, and torch.fx cannot trace the model: Proxy .* iterated$",
            **{f"h.{i}.attn.{name}_dropout": "in no nn.Seq" for i in (0, 1) for name in ("attn", "resid")},
            **{f"h.{i}.mlp.4": "one of the model's, or of its nn.Sequential's" for i in (0, 1)},
        },
    ),
    "encoder": (
        {"head.0": "head.1.weight × 1.42857"},
        {
            f"encoder.layers.{i}.{name}": "in a module of torch.nn"
            for i in (0, 1)
            for name in ("dropout", "dropout1", "dropout2")
        }
        | {f"encoder.layers.{i}.self_attn": "MultiheadAttention has no classic mode" for i in (0, 1)},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_whole_models(name):
    model, x = build(name)
    model = convert(model).model.double()
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0  # a number, which draws by no key
        if hasattr(module, "attn_dropout"):
            module.attn_dropout.p = 0.0
    x = x.double() if x.is_floating_point() else x
    wanted, state = outputs(model, x), {key: tuple(value.shape) for key, value in model.state_dict().items()}
    report = to_classic(model)
    moved, left = MODEL_SITES[name]
    if name == "gpt":
        moved = {
            **moved,
            **{f"h.{i}.attn.attn_dropout": "no weight, since p=0 has the scale 1" for i in (0, 1)},
        }
        left = {site: reason for site, reason in left.items() if "attn_dropout" not in site}
    assert report.moved == moved
    assert set(report.left) == set(left)
    for site, reason in left.items():
        assert re.search(reason, report.left[site]), report.left[site]
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == state
    for got, want in zip(outputs(model, x), wanted, strict=True):
        assert torch.allclose(got, want, **ROUNDING)
    to_inverted(model)
    for got, want in zip(outputs(model, x), wanted, strict=True):
        assert torch.allclose(got, want, **ROUNDING)


def test_a_copy_leaves_the_original():
    model = nn.Sequential(Dropout(0.5), lin())
    before = weights(model)
    report = to_classic(model, copy=True)
    assert report.model is not model
    assert (modes(model), modes(report.model)) == ({"0": "inverted"}, {"0": "classic"})
    assert torch.equal(model[1].weight, before["1.weight"])
    assert torch.equal(report.model[1].weight, before["1.weight"] * 2)


class Remembers(nn.Module):
    """A forward that leaves traces of itself."""

    def __init__(self):
        super().__init__()
        self.drop, self.a = Dropout(0.5), lin()
        self.register_buffer("count", torch.zeros(()))
        self.last = None

    def forward(self, x):
        self.count.add_(1)
        self.last = x
        return self.a(self.drop(x))


def test_tracing_leaves_no_trace():
    model, seen = Remembers().train(), []
    model.drop.eval()
    model.register_forward_hook(lambda *_: seen.append(1))
    model.register_forward_pre_hook(lambda *_: seen.append(1))
    assert list(to_classic(nn.Sequential(model)).moved) == ["0.drop"]
    assert (model.last, float(model.count), seen) == (None, 0.0, [])
    assert (model.training, model.drop.training) == (True, False)


def test_a_weight_that_would_overflow_stays():
    model = nn.Sequential(Dropout(0.99), lin()).half()
    with torch.no_grad():
        model[1].weight[0, 0] = 1000
    report = to_classic(model)
    assert report.left == {"0": "1.weight of 1000 × 100 does not fit torch.float16"}
    assert model[1].weight[0, 0] == 1000


def test_an_optimizer_keeps_its_parameters():
    model = nn.Sequential(Dropout(0.5), lin())
    before = list(model.parameters())
    to_classic(model)
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))
    assert model[1].weight.requires_grad


def test_inverted_sites_and_torchs_are_nothing_to_invert():
    report = to_inverted(nn.Sequential(Dropout(0.5), nn.Dropout(0.5), Dropout2d(0.5), lin()))
    assert str(report) == "moved: 0"


class Part(nn.Module):
    """A function that lets a scale pass, in a module of its own."""

    def forward(self, x):
        return torch.relu(x)


def hooked(where, kind):
    model = nn.Sequential(Dropout(0.5), Part(), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    change = {
        "forward_pre_hook": lambda module, inputs: (inputs[0] + 1,),
        "forward_hook": lambda module, inputs, output: output + 1,
        "full_backward_hook": lambda module, grad_input, grad_output: None,
        "full_backward_pre_hook": lambda module, grad_output: None,
    }[kind]
    getattr(model.get_submodule(where), f"register_{kind}")(change)
    return model


@pytest.mark.parametrize(
    "kind", ["forward_pre_hook", "forward_hook", "full_backward_hook", "full_backward_pre_hook"]
)
@pytest.mark.parametrize("where", ["0", "1", "2", "2.0", "2.1"])
def test_a_hook_on_the_way_leaves_the_scale_where_it_is(where, kind):
    model = hooked(where, kind)
    x = torch.randn(3, 4)
    before = model.eval()(x)
    report = to_classic(model)
    assert not report.moved
    assert report.left["0"].startswith(f"{where} has a ")
    assert "hook" in report.left["0"]
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook"])
def test_a_hook_around_all_of_it_does_not_matter(kind):
    model = nn.Sequential(hooked("", kind))
    x = torch.randn(3, 4)
    before = model.eval()(x)
    assert to_classic(model).moved
    torch.testing.assert_close(model(x), before)


def test_hooks_of_all_modules_leave_every_scale():
    model = nn.Sequential(Dropout(0.5), nn.Linear(4, 2))
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, inputs: None)
    try:
        assert "hooks of all modules" in to_classic(model).left["0"]
    finally:
        handle.remove()
    assert to_classic(model).moved


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 2)


COMPUTED = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "pruned": pruned,
    "parametrized weight_norm": nn.utils.parametrizations.weight_norm,
    "parametrized spectral_norm": nn.utils.parametrizations.spectral_norm,
    "drop_connect": drop_connect,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("name", COMPUTED)
def test_a_weight_that_is_computed_is_an_entry_and_no_error(name, copy):
    model = nn.Sequential(Dropout(0.5), COMPUTED[name](nn.Linear(4, 2)), nn.Dropout(0.5), nn.Linear(2, 2))
    x = torch.randn(3, 4)
    before = model.eval()(x)
    for verb in (to_classic, to_inverted, convert, strip):
        result = verb(model, copy=copy)
        torch.testing.assert_close(result.model(x), before)
        if verb is to_classic:
            assert "pre hook" in result.left["0"] or "computed from other parameters" in result.left["0"]


def test_a_lazy_layer_is_an_entry():
    model = nn.Sequential(Dropout(0.5), nn.LazyLinear(2))
    assert "has no values yet: run the model once" in to_classic(model).left["0"]
    model(torch.ones(3, 4))
    assert to_classic(model).moved
