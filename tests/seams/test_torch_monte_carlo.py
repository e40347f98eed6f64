"""Monte Carlo prediction reaches every listed layer: `sites` names it, and its masks are of the keys."""

import pytest
import torch
from torch_sites import LAYERS

from thinned import Key
from thinned.mc.torch import active, sites

KEY = Key(3, 1)


def results(layer, x, key):
    with active(layer, key=key), torch.no_grad():
        return torch.cat([leaf.flatten().double() for leaf in torch.utils._pytree.tree_leaves(layer(*x))])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_evaluation_is_a_site_and_draws_by_the_keys(name):
    model, x = torch.nn.Module(), LAYERS[name].inputs()
    model.inner = layer = LAYERS[name].make().eval()
    model.forward = lambda *x: layer(*x)
    found = sites(model, *x)
    assert found
    assert all(site.reached for site in found), found
    assert {site.name.partition(".")[0] for site in found} == {"inner"}
    first, again, other = (results(layer, x, key) for key in (KEY, KEY, Key(4, 1)))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert not layer.training
