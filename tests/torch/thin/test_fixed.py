"""A fixed number of units is kept: how many, which, and that they are computed as their masks say."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_families import FAMILIES, close, made, of_each, step

import thinned
from thinned import Key, _fixed, _kernel, contract
from thinned.mc.torch import predict
from thinned.torch import keyed, keys, masked, nn, schedules, set_rows, set_step, thin, unthin
from thinned.torch._fixed import fixed_dropout, largest
from thinned.torch._thin._branch import ThinPath
from thinned.torch._thin._units import ThinSite

pytestmark = pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask")
every_family = of_each(name for name, family in FAMILIES.items() if family.fixed)
P = [0.5, *(pytest.param(p, marks=pytest.mark.full) for p in (0.0, 0.1, 0.9, 1.0))]


def reference(key, p, rows, size):
    """In plain NumPy: a row's units in the order of their numbers, of which the first are kept."""
    position = np.arange(rows * size).reshape(rows, size)
    u = contract.halfword(key, position, 0) << np.uint64(16) | contract.halfword(key, position, 1)
    exact = (1 - Fraction(contract.threshold(p), 2**32)) * size
    count = -int(-(exact - Fraction(1, 2)) // 1)  # to the nearest, a half down
    count = max(count, 1) if contract.threshold(p) < 2**32 else 0
    mask = np.zeros((rows, size), bool)
    for row in range(rows):
        order = sorted(range(size), key=lambda unit: (-int(u[row, unit]), unit))
        mask[row, order[:count]] = True
    return mask, (size / count if count else 0.0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**64 - 1), st.floats(0, 1), st.integers(1, 3), st.integers(1, 40), st.sampled_from("rk")
)
def test_what_is_kept_is_the_definitions(stream, p, rows, size, path):
    key = Key(3, stream)
    mask, scale = reference(key, p, rows, size)
    values = fixed_dropout(torch.ones(rows, size, dtype=torch.float64), p, True, key=key)
    assert np.array_equal(values.numpy(), mask * scale)
    before = _kernel.path()
    _kernel.select(_kernel.REFERENCE if path == "r" else before)
    try:
        kept = largest(thinned.torch._key.key_to_tensor(key), rows, size, int(mask[0].sum()))
    finally:
        _kernel.select(before)
    assert [row.nonzero()[0].tolist() for row in mask] == kept.tolist()
    assert (
        not mask.any() or np.isclose(values.numpy().sum(1), size).all()
    )  # so that each unit's expectation is 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_what_is_kept_at_p_is_kept_at_every_smaller_p(size, p, q):
    p, q = sorted((p, q))
    assert 0 <= _fixed.kept_units(q, size) <= _fixed.kept_units(p, size) <= size
    assert abs(_fixed.kept_units(p, size) - (1 - p) * size) <= 1.0


def test_equal_numbers_are_told_apart_by_their_positions():
    key, size = Key(1, 2), 1 << 18
    position = np.arange(size)
    u = contract.halfword(key, position, 0) << np.uint64(16) | contract.halfword(key, position, 1)
    order = np.argsort(u, kind="stable")
    first = next(k for k in range(1, size) if u[order[k]] == u[order[k - 1]])
    low, high = order[first - 1], order[first]
    assert low < high
    count = int((u > u[low]).sum()) + 1
    for kernel in (_kernel.largest, thinned._reference.largest):
        kept = np.empty((1, count), np.int64)
        kernel(key.seed, key.stream, 1, size, count, kept.ctypes.data)
        assert low in kept
        assert high not in kept


@pytest.mark.parametrize("key", [1, pytest.param(None, marks=pytest.mark.full)])
@pytest.mark.parametrize("p", P)
@every_family
def test_thinned_is_masked(name, p, key):
    model, x = made(name, p, key, fixed=True)
    assert close(step(model, x), step(model, x, masks=True))


@pytest.mark.parametrize("groups", [3, pytest.param(2, marks=pytest.mark.full)])
@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.groups])
def test_groups_are_masked_alike(name, p, groups):
    model, x = made(name, p, groups=groups, fixed=True)
    assert close(step(model, x), step(model, x, masks=True))


@every_family
def test_shapes_are_those_of_every_step(name):
    """And the kept units are the site's own, by its name and step."""
    model, _ = made(name, 0.5, fixed=True)
    for number in range(3):
        set_step(model, number)
        for site_name, site in model.named_modules():
            if (
                not isinstance(site, (ThinSite, ThinPath))
                or not site.p
                or getattr(site, "mode", "row") == "batch"
            ):
                continue
            mask, _ = reference(Key(1).fold(site_name).fold(number), site.p, 1, 20)
            (part,) = site.draw(20).parts
            assert part.tolist() == mask[0].nonzero()[0].tolist()
            assert len(part) == 10


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.fixed])
def test_layers_that_decide_by_themselves_stay_as_they_are(name):
    report = thin(FAMILIES[name].make(0.5), fixed=True)
    assert "take fixed=False" in " ".join(report.left.values())


def small(p, **options):
    model = torch.nn.Sequential(torch.nn.Linear(4, 9), nn.Dropout(p, **options), torch.nn.Linear(9, 3))
    thin(model, fixed=True)
    return keyed(model.double(), 1)


def test_evaluation_and_classic_scaling():
    x = torch.randn(5, 4, dtype=torch.float64)
    model = small(0.5)
    plain = unthin(thin(model, copy=True).model)
    assert torch.equal(model.eval()(x), plain.eval()(x))
    model = small(0.5, mode="classic")
    hidden = model[0].weight @ x.T + model[0].bias[:, None]
    assert torch.allclose(model.eval()(x), model[2](hidden.T * (4 / 9)))
    assert close(step(model.train(), x), step(model, x, masks=True))
    assert "fixed=True" in repr(model[1])
    assert not hasattr(unthin(model)[1], "fixed")


def test_schedules_and_tensors():
    x = torch.randn(5, 4, dtype=torch.float64)
    model = small(schedules.Late(0.5, 2))
    for number, width in ((0, 9), (2, 4)):
        set_step(model, number)
        assert model[0](x).shape == (5, width)
        assert close(step(model, x), step(model, x, masks=True))
    model[1].p = torch.tensor(0.7)
    assert close(step(model, x), step(model, x, masks=True))
    model[1].p = torch.full((1, 9), 0.5)
    with pytest.raises(ValueError, match="p must be one number where a fixed number of units is kept"):
        model(x)


def test_under_keys_units_are_those_of_the_masks():
    model, x = made("units", 0.5, None, fixed=True)
    with keys(model, 7, step=2):
        assert close(step(model, x), step(model, x, masks=True))


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.full)])
def test_samples_are_the_masked_ones(shared):
    model, x = made("units", 0.5, None, fixed=True)
    given = {"samples": 4, "key": Key(3), "keep": True, "shared": shared}
    drawn = predict(model.eval(), x, **given).draws
    with masked():
        assert np.allclose(drawn, predict(model, x, **given).draws, atol=1e-10)
    assert drawn.std(0).max() > 0


def test_a_part_of_a_batch_has_no_fixed_number_of_samples():
    model, x = made("a block", 0.5, fixed=True)
    set_rows(model, range(8), 16)
    with pytest.raises(RuntimeError, match=r"set_rows with fixed=True"):
        model(x)
