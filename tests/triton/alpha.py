"""Alpha dropout's kernels: the contract's mask, and NumPy's arithmetic around it, to the bit."""

import math

import numpy as np
import pytest
import torch
from arrays import DTYPES, array, numbers, rate, reference
from equal_bits import assert_equal_bits

from thinned import Key
from thinned._position import positions
from thinned.contract import threshold
from thinned.torch import _alpha, _cuda, _key, functional
from thinned.torch._triton import _launch

KEY = Key(2**63 + 11, 2**40 + 3)
BITS = _key.key_to_tensor(KEY)
LIMIT = -1.7580993408473766


def launch(x, p, kind="alpha", key=BITS, **where):
    shapes = [where.get(name) for name in ("noise_shape", "global_shape", "start", "step")]
    base, strides = positions(tuple(x.shape[key.dim() - 1 :]), *shapes)
    return _launch.dropout(x, torch.empty_like(x), key, rate(p), True, base, strides, kind)


def formula(x, p, kind="alpha", **where):
    """In NumPy: a · x + b where kept, a · α' + b where not, of the realised p; two roundings, and x's own."""
    p = threshold(p) / 2.0**32
    a = 1.0 / math.sqrt((LIMIT * LIMIT * p + 1.0) * (1.0 - p)) if p < 1 else 0.0
    b = -a * LIMIT * p
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    kept = reference(torch.ones(x.shape, dtype=torch.float32), p, KEY, **where) != 0
    with np.errstate(all="ignore"):
        there = np.ascontiguousarray(array(x)).astype(wide) * wide(a)
        there, low = (there + wide(b), wide(a * LIMIT + b)) if kind == "alpha" else (there, wide(0))
    return np.where(kept, there, low).astype(array(x).dtype)


def check(x, p=0.3, **where):
    for kind in ("alpha", "slope"):
        ours = np.ascontiguousarray(array(launch(x, p, kind, **where)))
        assert_equal_bits(ours, formula(x, p, kind, **where))


@pytest.mark.parametrize(
    "dtype", [d if d.itemsize == 4 else pytest.param(d, marks=pytest.mark.full) for d in DTYPES], ids=str
)
def test_values(dtype):
    special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-40], dtype=dtype).repeat(30)
    check(torch.cat([numbers(300, dtype), special]))


@pytest.mark.full
@pytest.mark.parametrize("p", [2.0**-32, 0.1, 0.5, 1 - 2.0**-32, 1.0])
def test_rates(p):
    check(numbers(300), p)


@pytest.mark.full
@pytest.mark.parametrize("shape", [(40, 72), (2, 3, 72), (3,), (0, 8)])
def test_layouts(shape):
    x = numbers(shape)
    for one in (x, x.t() if x.dim() == 2 else x.movedim(0, -1), x[..., ::3]):
        check(one)


@pytest.mark.full
def test_channels_and_shards():
    x = numbers((2, 3, 72))
    check(x, noise_shape=(2, 3, 1))
    check(x, noise_shape=(2, 1, 72))
    check(x, global_shape=(9, 3, 2**40), start=(5, 0, 2**39 + 5))


@pytest.mark.full
@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_key_and_p_are_read_by_the_kernel():
    for x in (numbers(300), numbers((40, 40)).t()):
        check(x)
    for p in (math.nan, -0.1, 1.5):
        assert launch(numbers(50), p).isnan().all()


@pytest.mark.parametrize(
    "shape", [*(pytest.param(s, marks=pytest.mark.full) for s in [(3, 1), (1, 24), ()]), (3, 24)]
)
def test_a_p_for_each_row_column_or_element(shape):
    x = numbers((3, 24))
    p = torch.linspace(0, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
    whole = p.expand(3, 24)
    for kind in ("alpha", "slope"):
        y = launch(x, p, kind)
        for one in p.unique():
            at = (whole == one).numpy()
            assert_equal_bits(array(y)[at], formula(x, float(one), kind)[at])


@pytest.mark.full
def test_a_key_for_each_row():
    x = numbers((3, 100))
    keys = torch.stack([BITS, BITS + 1, BITS + 2])
    y = launch(x, 0.3, key=keys)
    for row in range(3):
        assert torch.equal(y[row], launch(x[row], 0.3, key=keys[row]))


def there_and_back(verb, x, p, upstream):
    x = x.clone().requires_grad_()
    y = verb(x, p, True, key=KEY)
    return y, *torch.autograd.grad(y, x, upstream)


@pytest.mark.full
@pytest.mark.usefixtures("kernels_serve_the_cpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("verb", [functional.alpha_dropout, functional.feature_alpha_dropout])
def test_verbs_and_their_gradients_have_the_bits_of_the_operators(monkeypatch, verb, dtype):
    x, upstream = numbers((3, 5, 24), dtype), numbers((3, 5, 24), dtype, 1)
    for p in (0.3, torch.tensor(0.3), torch.tensor([[[0.1]], [[0.0]], [[1.0]]])):
        found = []
        for served in (True, False):
            monkeypatch.setattr(_cuda, "serves", lambda input, served=served: served)
            found.append(there_and_back(verb, x, p, upstream))
        for ours, theirs in zip(*found, strict=True):
            assert_equal_bits(array(ours), array(theirs))


@pytest.mark.full
@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_in_place_and_transforms():
    x = numbers((4, 30))
    y = functional.alpha_dropout(x, 0.3, True, key=KEY)
    assert torch.equal(torch.func.vmap(lambda x: functional.alpha_dropout(x, 0.3, True, key=KEY))(x)[0], y[0])
    assert functional.alpha_dropout(x, 0.3, True, inplace=True, key=KEY) is x
    assert torch.equal(x, y)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_derivatives_of_both_modes_and_orders():
    x = numbers((4, 5), torch.float64).requires_grad_()
    call = lambda x: _alpha.alpha_dropout(x * x, BITS, rate(0.3))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (x,))
    torch.library.opcheck(torch.ops.thinned.alpha_dropout, (x, BITS, rate(0.3)))


def test_the_operator_has_its_bits_without_a_kernel():
    x = numbers((3, 24), torch.bfloat16)
    for affine, kind in ((True, "alpha"), (False, "slope")):
        y = torch.ops.thinned.alpha_dropout(x, BITS, rate(0.3), affine, [-1, 1])
        assert_equal_bits(array(y), formula(x, 0.3, kind, noise_shape=(3, 1)))
