"""Each family computes what its masks compute: outputs and gradients, by every way to a key."""

import copy
import pickle

import pytest
import torch
from thin_families import FAMILIES, close, made, of_each, step
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import thinned
from thinned.torch import keys, masked, set_step, thin, unthin
from thinned.torch._thin import _groups
from thinned.torch._thin._attention import HeadLink
from thinned.torch._thin._kept import Kept
from thinned.torch._thin._units import ThinSite

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
every_family = of_each()
with_groups = of_each(name for name, family in FAMILIES.items() if family.groups)


def products(model, x):
    """Multiplications of a forward pass, and which operators made them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops()


@pytest.mark.covering
@pytest.mark.parametrize("key", [None, 1])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@every_family
def test_thinned_is_masked(name, p, key):
    model, x = made(name, p, key)
    one, other = step(model, x), step(model, x, masks=True)
    assert all(value is not None for value in one.values())
    assert close(one, other)


@pytest.mark.covering
@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize("p", [0.0, 0.5, 0.9])
@with_groups
def test_groups_are_masked_alike(name, p, groups):
    model, x = made(name, p, groups=groups)
    assert close(step(model, x), step(model, x, masks=True))


@pytest.mark.covering
@pytest.mark.parametrize("key", [None, 1])
@pytest.mark.parametrize("p", [0.5, 0.9])
@with_groups
def test_groups_of_many_rows_are_masked_alike(name, p, key, monkeypatch):
    """Groups of few rows are one product; these have a part of each weight, as large ones do."""
    monkeypatch.setattr(_groups, "_FEW", 0)
    model, x = made(name, p, key, groups=2)
    assert close(step(model, x), step(model, x, masks=True))
    model, x = made(name, p, key, groups=3)
    assert close(step(model, x), step(model, x, masks=True))


@every_family
def test_less_is_computed(name):
    """Or the test above would compare masks with masks."""
    model, x = made(name, 0.5)
    thinly = products(model, x)
    with masked():
        whole = products(model, x)
    assert thinly < whole
    assert products(model.eval(), x) in (whole, 0)  # 0: torch's fused attention, which is not counted


@every_family
def test_the_mask_is_the_contracts(name):
    """The site's own verb, its noise shape, and the key of its name and step."""
    model, _ = made(name, 0.5)
    set_step(model, 3)
    for site_name, site in model.named_modules():
        if not isinstance(site, ThinSite) or "p" not in vars(site):
            continue
        (part,) = site.draw(20).parts
        expected = thinned.keep_mask(20, site.p, key=thinned.Key(1).fold(site_name).fold(3))
        assert part.tolist() == expected.nonzero()[0].tolist()


@every_family
def test_a_site_alone_is_what_it_says(name):
    """Where modules before a site were not called it masks; the mask is shared by all but its axis."""
    model, _ = made(name, 0.5)
    for site in model.modules():
        if isinstance(site, ThinSite) and getattr(site, "p", 0):
            x = torch.ones(4, 5, *(3,) * (site._axes + (site._axes == 0)))
            y = unthin(copy.deepcopy(model)) and site._mask(x, None)
            axis = site._axis(x)
            kept = y.movedim(axis, 0).reshape(y.shape[axis], -1)
            assert ((kept == 0).all(1) | (kept == 2).all(1)).all()


@every_family
def test_evaluation_is_untouched(name):
    model, x = made(name, 0.5)
    back = unthin(copy.deepcopy(model)).eval()
    assert torch.equal(model.eval()(x), back(x))
    assert list(model.state_dict()) == list(back.state_dict())
    assert not any("Thin" in type(module).__name__ for module in back.modules())


@every_family
def test_copies_and_pickles_are_models_of_their_own(name):
    model, x = made(name, 0.5, key=4)
    expected = step(model, x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert close(step(other, x), expected)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not close(step(other, x), expected)
    assert close(step(model, x), expected)


@pytest.mark.covering
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("key", [None, 1])
@every_family
def test_a_checkpoint_computes_the_same_network_again(name, key, reentrant):
    model, x = made(name, 0.5, key)
    around = torch.nn.Module()
    around.named_parameters = model.named_parameters
    around.parameters = model.parameters
    around.forward = lambda x: checkpoint(model, x, use_reentrant=reentrant)
    assert close(step(around, x), step(model, x))


@every_family
def test_under_keys_masks_have_the_sites_names(name):
    model, x = made(name, 0.5, None)
    with keys(model, 7, step=2) as run:
        thinly = step(model, x)
        sites = sorted(site.name for site in run.sites)
        assert close(thinly, step(model, x, masks=True))
        assert sites == sorted(site.name for site in run.sites)


@every_family
def test_nothing_of_what_is_dropped_leaks(name):
    """A NaN in the weights of dropped units, or in dropped samples, reaches neither output nor gradient."""
    model, x = made(name, 0.5)
    if "sample" in name or not any(
        isinstance(m, ThinSite) and m.link.sources and m.p > 0 for m in model.modules()
    ):
        return
    expected = step(model, x)
    site = next(m for m in model.modules() if isinstance(m, ThinSite) and m.link.sources)
    source = site.link.sources[0]
    weight = source.weight.T if isinstance(source, torch.nn.Embedding) else source.weight
    heads = isinstance(site.link, HeadLink)
    kept: Kept = site.draw(site.link.heads if heads else len(weight))
    kept = kept.of(*site.link.layouts[0]) if heads else kept
    gone = sorted(set(range(kept.size)) - set(kept.parts[0].tolist()))
    assert gone
    with torch.no_grad():
        weight[gone] = torch.nan
    got = step(model, x)
    assert close(got, expected)
    gradient = dict(zip([n for n, _ in model.named_parameters()], model.parameters(), strict=True))
    of_source = next(n for n, p in gradient.items() if p is source.weight)
    gradient = got[of_source].T if weight is not source.weight else got[of_source]
    assert not gradient[gone].any()


@every_family
def test_gradients_accumulate(name):
    model, x = made(name, 0.5)
    once = {n: p.grad.clone() for n, p in model.named_parameters() if step(model, x) and p.grad is not None}
    twice = {}
    for number in range(2):
        set_step(model, number)
        grads = {n: p.grad for n, p in model.named_parameters()}
        torch.manual_seed(9)
        y = model(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
        del grads
        twice = {n: p.grad.clone() for n, p in model.named_parameters()}
    set_step(model, 0)
    step(model, x)
    first = {n: p.grad.clone() for n, p in model.named_parameters()}
    set_step(model, 1)
    step(model, x)
    second = {n: p.grad.clone() for n, p in model.named_parameters()}
    for each in once:  # the step before the loop was not zeroed
        assert torch.allclose(twice[each], once[each] + first[each] + second[each], atol=1e-10)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_family
def test_half_floats(name, dtype):
    model, x = made(name, 0.5)
    model, x = model.to(dtype), x.to(dtype)
    one, other = step(model, x), step(model, x, masks=True)
    assert one["output"].dtype == dtype
    for each in one:
        most = other[each].abs().max().double()
        assert (one[each].double() - other[each].double()).abs().max() <= 0.06 * most + 1e-3


@every_family
def test_autocast(name):
    model, x = made(name, 0.5)
    model, x = model.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        one, other = step(model, x), step(model, x, masks=True)
    most = other["output"].abs().max()
    assert (one["output"].float() - other["output"].float()).abs().max() <= 0.06 * most


@every_family
def test_torch_func_sees_the_masks(name):
    model, x = made(name, 0.5)
    expected = step(model, x, masks=True)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights):
        y = torch.func.functional_call(model, weights, (x,))
        return (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()

    got = torch.func.grad(loss)(weights)
    assert close(got, expected)


def test_thinning_twice_changes_nothing():
    model, x = made("units", 0.5)
    expected = step(model, x)
    report = thin(model)
    assert not report.thinned
    assert close(step(model, x), expected)
