"""Monte Carlo prediction of thin models: the samples are those of the masked ones."""

import numpy as np
import pytest
import torch
from thin_families import FAMILIES, made

from thinned import Key
from thinned.mc.torch import predict
from thinned.torch import masked, nn, thin

UNITS = [name for name, family in FAMILIES.items() if family.groups]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", UNITS)
def test_samples_are_the_masked_ones(name, shared):
    model, x = made(name, 0.5)
    model.eval()
    given = {"samples": 4, "key": Key(3), "keep": True, "shared": shared}
    thinly = predict(model, x, **given).draws
    with masked():
        whole = predict(model, x, **given).draws
    assert np.allclose(thinly, whole, atol=1e-10)
    assert thinly.std(0).max() > 0
    assert not model.training


class Mixing(torch.nn.Module):
    def __init__(self, site):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 9), site, torch.nn.Linear(9, 2))

    def forward(self, x):
        return self.body(x) + x.mean()


def test_a_model_that_mixes_inputs_gives_each_its_own_output():
    model = Mixing(torch.nn.Dropout(0.5)).eval()
    x = torch.randn(6, 4)
    expected = predict(model, x, samples=3, key=Key(1), shared=True).mean
    thin(model)
    assert np.allclose(predict(model, x, samples=3, key=Key(1), shared=True).mean, expected, atol=1e-6)


def test_other_sites_have_the_masks_that_they_had():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 9), nn.DropPath(0.5), torch.nn.Dropout(0.5), torch.nn.Linear(9, 2)
    )
    model.eval()
    x = torch.randn(6, 4)
    expected = predict(model, x, samples=3, key=Key(1), shared=True).mean
    assert thin(model).thinned
    assert np.allclose(predict(model, x, samples=3, key=Key(1), shared=True).mean, expected, atol=1e-6)
