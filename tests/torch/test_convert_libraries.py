"""Models of PEFT, timm and torchvision as these packages make them: converted, and keyed throughout."""

import copy

import pytest
import torch
from torch import nn

from thinned.torch import convert, keyed, keys, set_step, unconvert
from thinned.torch import nn as ours

pytestmark = [pytest.mark.usefixtures("one_thread")]


def dropouts(model):
    """Names of dropout modules of torch's own, and how many are ours."""
    modules = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    return [name for name, module in modules if type(module) is nn.Dropout], sum(
        type(module) is ours.Dropout for _, module in modules
    )


def without_zeros(model):
    """The model with weights in place of zeros: timm and torchvision let some heads begin with zeros."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def assert_differ_by_step_alone(forward):
    with torch.no_grad():
        first = forward(3)
        torch.manual_seed(1)
        other = forward(4)
        torch.manual_seed(2)
        again = forward(3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def assert_keyed(model, x, kinds):
    """Converted and keyed, its masks are those of seed, name and step; evaluation is what it was."""
    without_zeros(model)
    before = copy.deepcopy(model).eval()
    convert(model)
    left, count = dropouts(model)
    assert not left
    assert count >= kinds
    with torch.no_grad():
        assert torch.equal(model.eval()(x), before(x))
    model = keyed(model.train(), 7, check=x)  # which names every draw that has no key
    assert_differ_by_step_alone(lambda step: set_step(model, step)(x))


class Lora(nn.Module):
    """What PEFT does specially: a dropout for each adapter, none where the rate is 0."""

    def __init__(self, base, rates):
        super().__init__()
        self.base_layer = base
        self.lora_dropout = nn.ModuleDict(
            {name: nn.Dropout(p=rate) if rate else nn.Identity() for name, rate in rates.items()}
        )
        self.lora_A = nn.ModuleDict({name: nn.Linear(base.in_features, 2, bias=False) for name in rates})
        self.lora_B = nn.ModuleDict({name: nn.Linear(2, base.out_features, bias=False) for name in rates})

    def forward(self, x):
        out = self.base_layer(x)
        for name, dropout in self.lora_dropout.items():
            if not isinstance(dropout, nn.Identity):
                assert isinstance(dropout, nn.Dropout)
            out = out + self.lora_B[name](self.lora_A[name](dropout(x)))
        return out


def test_lora_of_adapters_with_and_without_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(Lora(nn.Linear(8, 8), {"default": 0.3, "second": 0.0, "third": 0.5}), nn.ReLU())
    assert_keyed(model, torch.randn(4, 8), 2)
    unconvert(model)
    assert isinstance(model[0].lora_dropout["second"], nn.Identity)


@pytest.mark.full
@pytest.mark.parametrize("dora", [False, True])
def test_pefts_lora(dora):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 8))
    config = peft.LoraConfig(
        r=2, target_modules=["0", "3"], lora_dropout=0.3, init_lora_weights=False, use_dora=dora
    )
    model = peft.get_peft_model(base, config)
    assert_keyed(model, torch.randn(4, 8), 3)
    x = torch.randn(2, 8)
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(model.merge_and_unload().eval()(x), expected)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "options", "kinds"),
    [
        (
            "vit_tiny_patch16_224",
            {"img_size": 32, "drop_path_rate": 0.1, "proj_drop_rate": 0.1, "pos_drop_rate": 0.1},
            1,
        ),
        ("vit_tiny_patch16_224", {"img_size": 32, "attn_drop_rate": 0.2, "drop_path_rate": 0.1}, 1),
        ("mixer_s32_224", {"img_size": 64, "drop_path_rate": 0.2, "proj_drop_rate": 0.1}, 1),
        ("convnext_atto", {"drop_path_rate": 0.2}, 1),
        # Their rate before the classifier is an argument of F.dropout, below; paths and blocks are modules.
        ("efficientnet_b0", {"drop_rate": 0.0, "drop_path_rate": 0.2}, 0),
        ("resnet18", {"drop_rate": 0.0, "drop_path_rate": 0.2, "drop_block_rate": 0.1}, 0),
    ],
    ids=str,
)
def test_timms_models(name, options, kinds):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    fused = getattr(timm.layers, "set_fused_attn", None)
    if fused is not None and "attn_drop_rate" in options:
        fused(False)  # fused attention takes a rate as an argument: convert says so, keys(model) serves it
    model = timm.create_model(name, num_classes=3, **{"drop_rate": 0.3, **options})
    assert_keyed(model, torch.randn(2, 3, options.get("img_size", 64), options.get("img_size", 64)), kinds)


@pytest.mark.full
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18"])
def test_timms_calls_of_functions_are_named_and_keyed_from_outside(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, drop_rate=0.3, drop_path_rate=0.2).train()
    x = torch.randn(2, 3, 64, 64)
    assert "F.dropout" in str(convert(model))
    with pytest.warns(UserWarning, match="1 draws of this model have no key"):
        keyed(model, 7, check=x)

    def forward(step):
        with keys(model, 7, step=step):
            return model(x)

    assert_differ_by_step_alone(forward)


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["vgg11", "efficientnet_b0", "convnext_tiny", "vit_b_32", "mobilenet_v3_small"]
)
def test_torchvisions_models(name):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    torch.manual_seed(0)
    options = (
        {"image_size": 32, "num_classes": 3, "dropout": 0.1} if name == "vit_b_32" else {"num_classes": 3}
    )
    size = 32 if name == "vit_b_32" else 64
    kinds = {"convnext_tiny": 0}.get(name, 1)  # stochastic depth alone
    assert_keyed(getattr(models, name)(**options), torch.randn(2, 3, size, size), kinds)
