"""Ways to use a model that know nothing of thin sites: each family computes what its masks compute.

A new way enters by a line in `thin_ways`, a new family by one in `thin_families`.
"""

import contextlib
import io

import pytest
import torch
from thin_families import FAMILIES, close, made, of_each
from thin_ways import WAYS, empty, gradients, loss, on_another_default_device, traced
from torch.nn.utils import parametrizations

from thinned.torch import masked, thin, unthin

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection"),
    pytest.mark.filterwarnings("ignore:For backward hooks to be called"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]


def run(way, model, x, masks):
    torch.manual_seed(11)
    if masks:
        with masked():
            return way(model, x)
    return way(model, x)


# What torch, or the family's own code, takes no more with masks.
LIMITS = {
    **dict.fromkeys([(name, empty) for name in ("LSTM", "GRU")], "length to be larger than 0"),
    ("LSTM", traced): "'tuple' object has no attribute 'sum'",
    ("heads of a branch", traced): "slice indices must be integers",
    ("heads of three maps", on_another_default_device): "device",
}


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("way", WAYS)
@of_each()
def test_a_way_of_use_computes_what_masks_compute(name, way):
    found = []
    for masks in (True, False):
        model, x = made(name, 0.5)
        if limit := LIMITS.get((name, way)):
            with pytest.raises((RuntimeError, AttributeError, TypeError), match=limit):
                run(way, model, x, masks)
        else:
            found.append({key: one for key, one in run(way, model, x, masks).items() if one is not None})
    if found:
        assert found[0]
        assert found[0].keys() == found[1].keys()
        assert close(*found)


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@of_each()
def test_half_precision_with_scaled_losses(name, dtype):
    found = []
    for masks in (True, False):
        model, x = made(name, 0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        with masked() if masks else contextlib.nullcontext():
            y = model.to(dtype)(x.to(dtype))
            scaler.scale(loss(y) * 1e-2).backward()
        found.append({"output": y, **gradients(model)})
    for key, one in found[0].items():
        assert torch.allclose(one.double(), found[1][key].double(), rtol=0.03, atol=0.03), key


@pytest.mark.parametrize("groups", [1, 2])
def test_complex_numbers_are_refused_as_by_masks(groups):
    layers = [torch.nn.Linear(*sizes, dtype=torch.complex64) for sizes in ((6, 20), (20, 3))]
    model = torch.nn.Sequential(layers[0], torch.nn.Dropout(0.5), layers[1])
    thin(model, groups=groups)
    for way in (masked, contextlib.nullcontext):
        with way(), pytest.raises(TypeError, match=r"got torch\.complex64"):
            model(torch.ones(4, 6, dtype=torch.complex64))


@of_each()
def test_a_model_without_numbers_is_thin_or_says_when_to_try_again(name):
    model = FAMILIES[name].make(0.5).to("meta")
    with_numbers = thin(FAMILIES[name].make(0.5))
    report = thin(model)
    for site, why in report.left.items():
        assert "meta device" in why or "p to 0" in why or why == with_numbers.left[site], report
    assert {*report.thinned, *report.left} == {*with_numbers.thinned, *with_numbers.left}
    x = torch.randn(FAMILIES[name].shape, device="meta")
    if (name, on_another_default_device) not in LIMITS:
        assert model(x).is_meta
        assert unthin(model)(x).is_meta


def test_a_class_that_was_made_of_a_thin_one_is_not_taken_back_silently():
    for at, change in ((0, parametrizations.weight_norm), (2, _another_class)):
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
        )
        thin(model)
        change(model[at])
        with pytest.raises(RuntimeError, match=f"module '{at}' is a .*Thin.* since thin.model."):
            unthin(model)
        assert all("Thin" in type(model[k]).__name__ for k in (0, 2, 3))
        if not at:
            torch.nn.utils.parametrize.remove_parametrizations(model[0], "weight")
            assert type(unthin(model)[0]) is torch.nn.Linear


def _another_class(module):
    """As `fully_shard` does."""
    module.__class__ = type(f"FSDP{type(module).__name__}", (type(module),), {})


def test_weights_whose_gradients_memory_is_kept_can_be_swapped_and_saved():
    model = torch.nn.Sequential(
        torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(256, 2)
    )
    thin(model)
    model(torch.ones(4, 256)).sum().backward()
    model.zero_grad()
    torch.save(model[0].weight, file := io.BytesIO())
    assert file.tell() < 1.1 * model[0].weight.nbytes
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), model[0].weight)
    torch.utils.swap_tensors(model[0].weight, torch.nn.Parameter(torch.zeros(256, 256)))
    assert not model[0].weight.any()
