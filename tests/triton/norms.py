"""Dropout, residual and norm: sums and masks to the bit, norms to the rounding of their dtype."""

import math

import pytest
import torch
from arrays import DTYPES, array, numbers, rate, reference_from
from equal_bits import assert_equal_bits

from thinned import Key
from thinned.torch import _cuda, _key, _residual, functional, nn, set_rows
from thinned.torch._triton import _launch, _launch_norm
from thinned.torch.functional import dropout_add_layer_norm, dropout_add_rms_norm

KEY = Key(7, 2**40)
BITS = _key.key_to_tensor(KEY)
# Roundings of a sum of `width` terms, each half a unit; 8 of them is far above what was seen (1.5).
ROUNDINGS = 8
# Where in the whole the first element stands: at its begin, at that of a block, within one.
BASES = [0, 24, 2**40 + 5]


def close(ours, theirs, dtype):
    """To the dtype's rounding, relative to the largest: terms of a sum may cancel."""
    error = (ours.double() - theirs.double()).abs().max().item()
    return error <= ROUNDINGS * torch.finfo(dtype).eps * max(theirs.abs().max().item(), 1.0)


def case(shape, dtype, affine=True, seed=0):
    x, residual = (numbers(shape, dtype, seed + i) for i in range(2))
    weight, bias = ((numbers(shape[-1:], dtype, seed + i) + 1 if affine else None) for i in (2, 3))
    return x, residual, weight, bias


@pytest.mark.parametrize(
    ("dtype", "other", "base"),
    [(dtype, other, 0) for dtype in DTYPES for other in DTYPES]
    + [(dtype, dtype, base) for dtype in DTYPES for base in BASES[1:]],
    ids=str,
)
def test_dropout_and_residual(dtype, other, base):
    """Two roundings, as the two calls have: dropout's to its dtype, and the sum's."""
    x, residual = numbers(5003, dtype), numbers(5003, other, 1)
    dropped = torch.empty_like(x)
    array(dropped)[...] = reference_from(base, x, 0.3, KEY)
    y = _launch.add(x, residual, BITS, rate(0.3), base)
    expected = dropped + residual
    assert y.dtype == expected.dtype
    assert_equal_bits(array(y), array(expected))


@pytest.mark.covering(strength=1)  # test_backward has the pairs, and calls this first
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "base"),
    [(shape, 0) for shape in [(3, 1), (3, 5), (5, 8), (2, 3, 24), (3, 100), (2, 1000), (0, 8)]]
    + [(shape, base) for shape in [(3, 5), (5, 8)] for base in BASES[1:]],
)
@pytest.mark.parametrize("rms", [False, True])
def test_forward(shape, dtype, rms, base):
    x, residual, weight, bias = case(shape, dtype)
    bias = None if rms else bias
    found = _launch_norm.forward(x, residual, weight, bias, BITS, rate(0.3), 1e-5, rms, shape[-1], base)
    normed, total, means, scales = found
    assert_equal_bits(array(total), array(_launch.add(x, residual, BITS, rate(0.3), base)))
    wide = total.double()
    if rms:
        expected = torch.nn.functional.rms_norm(wide, shape[-1:], weight.double(), 1e-5)
    else:
        expected = torch.nn.functional.layer_norm(wide, shape[-1:], weight.double(), bias.double(), 1e-5)
    assert normed.dtype == dtype
    if normed.numel():
        assert close(normed, expected, dtype)
    rows = math.prod(shape[:-1])
    assert (means.numel(), scales.numel()) == (0 if rms else rows, rows)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 24), (3, 100)])
@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize(("affine", "base"), [(False, BASES[0]), (True, BASES[1]), (True, BASES[2])])
def test_backward(shape, dtype, rms, affine, base):
    x, residual, weight, bias = case(shape, dtype, affine)
    bias = None if rms else bias
    small = (BITS, rate(0.3))
    _, total, means, scales = _launch_norm.forward(
        x, residual, weight, bias, *small, 1e-5, rms, shape[-1], base
    )
    grad, grad_total = numbers(shape, dtype, 8), numbers(shape, dtype, 9)
    rest = (grad, grad_total, total, weight, bias, means, scales, *small, rms)
    ours = _launch_norm.backward(*rest, shape[-1], dtype, dtype, base)
    wide = [t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in rest]
    theirs = _residual._by_rows(*wide, shape[-1], torch.float64, torch.float64, base)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert a.shape == b.shape
        assert a.numel() == 0 or close(a, b, dtype)
    # Input's gradient is residual's, dropped by the forward's mask.
    assert_equal_bits(array(ours[0]), reference_from(base, ours[1], 0.3, KEY))


@pytest.mark.parametrize(
    ("dtype", "rms", "affine"), [(torch.float32, False, True), (torch.bfloat16, True, True)]
)
@pytest.mark.parametrize(("width", "base"), [pytest.param(40, 0, marks=pytest.mark.full), (37, 5)])
def test_wide_rows_go_by_in_spans(monkeypatch, dtype, rms, affine, width, base):
    """The same, forward and backward, as of rows that a program holds; spans of 16 stand for 4,096."""
    for name, value in (("WIDEST", 16), ("WIDEST_BACK", 16), ("SPAN", 16), ("COLUMNS", 16), ("_PARTS", 2)):
        monkeypatch.setattr(_launch_norm, name, value)
    test_forward(shape=(2, width), dtype=dtype, rms=rms, base=base)
    test_backward(shape=(3, width), dtype=dtype, rms=rms, affine=affine, base=base)


def test_the_composed_backward_is_the_derivative():
    """In float64 against torch's own norms."""
    for rms in (False, True):
        x, residual, weight, bias = (t.requires_grad_() for t in case((4, 24), torch.float64))
        small = (BITS, rate(0.3))
        normed, total = _residual.dropout_add_norm(
            x, residual, weight, None if rms else bias, *small, 1e-5, rms, 24, 0
        )
        other = functional.dropout(x, 0.3, True, key=KEY) + residual
        norm = torch.nn.functional.rms_norm if rms else torch.nn.functional.layer_norm
        plain = norm(other, (24,), weight, *(() if rms else (bias,)), 1e-5)
        torch.testing.assert_close(normed, plain)
        leaves = (x, residual, weight, *(() if rms else (bias,)))
        upstream = [numbers((4, 24), torch.float64, seed) for seed in (8, 9)]
        ours = torch.autograd.grad((normed, total), leaves, upstream)
        theirs = torch.autograd.grad((plain, other), leaves, upstream)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("kernels_serve_the_cpu")
@pytest.mark.full  # 6 s each; the backward pass is what it should be, above, and so is its derivative
@pytest.mark.parametrize("rms", [False, True])
def test_first_and_second_derivatives(rms):
    x, residual, weight, bias = (t.requires_grad_() for t in case((3, 8), torch.float64))

    def f(*tensors):
        where = {"p": 0.3, "training": True, "key": KEY}
        if rms:
            return dropout_add_rms_norm(*tensors[:2], 8, tensors[2], 1e-3, **where)
        return dropout_add_layer_norm(*tensors[:2], 8, *tensors[2:], 1e-3, **where)

    leaves = (x, residual, weight, *(() if rms else (bias,)))
    assert f(*leaves)[0].grad_fn.name().startswith("Generated")  # ours, not torch's norm
    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)  # a launch takes 20 ms
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True)


@pytest.mark.usefixtures("kernels_serve_the_cpu")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [nn.DropoutAddLayerNorm, nn.DropoutAddRMSNorm])
def test_the_layers_agree_with_and_without_a_kernel(kind, training, monkeypatch):
    layer = kind(24, 0.3).train(training)
    layer.give_key(KEY, None)
    upstream, results = numbers((4, 24), seed=9), []
    for served in (True, False):
        monkeypatch.setattr(_cuda, "serves", lambda input, served=served: served)
        x, residual, *_ = (t.requires_grad_() for t in case((4, 24), torch.float32, False)[:2])
        normed, total = layer(x, residual)
        grads = torch.autograd.grad(
            (normed, total), [x, residual, *layer.parameters()], [upstream, 1 - upstream]
        )
        results.append((total, normed, *grads))
    (total, *ours), (plain, *theirs) = results
    assert torch.equal(total, plain)
    for a, b in zip(ours, theirs, strict=True):
        assert close(a, b, torch.float32)
    assert torch.equal(ours[1] == 0, theirs[1] == 0)


@pytest.mark.usefixtures("kernels_serve_the_cpu")
@pytest.mark.parametrize("kind", [nn.DropoutAdd, nn.DropoutAddLayerNorm, nn.DropoutAddRMSNorm])
def test_rows_of_a_batch_that_follow_one_another_are_one_pass(kind):
    """As data parallelism has them; what lies apart goes by the calls."""
    layer = kind(0.3) if kind is nn.DropoutAdd else kind(20, 0.3)
    layer.give_key(KEY, None)
    x, residual = (numbers((6, 20), seed=seed).requires_grad_() for seed in (0, 1))
    whole = sums(layer(x, residual))
    (gradient,) = torch.autograd.grad(whole, x, torch.ones_like(whole))
    for rows, fused in ((range(1, 4), True), (range(3, 6), True), (range(1, 6, 2), False)):
        set_rows(layer, rows, 6)
        part = slice(rows.start, rows.stop, rows.step)
        with DispatchedOperators() as seen:
            total = sums(layer(x[part].contiguous(), residual[part].contiguous()))
        assert torch.equal(total, whole[part])
        assert any("dropout_add" in name for name in seen.names) == fused
        (ours,) = torch.autograd.grad(total, x, torch.ones_like(total))
        assert torch.equal(ours[part], gradient[part])


def sums(found):
    return found[1] if isinstance(found, tuple) else found


class DispatchedOperators(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_what_is_saved():
    """Nothing of the input's size but the sum, which is a result."""
    x, residual, weight, bias = (t.requires_grad_() for t in case((4, 24), torch.float32))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        _, total = dropout_add_layer_norm(x, residual, 24, weight, bias, p=0.3, training=True, key=KEY)
    large = {t.data_ptr() for t in saved if t.numel() >= x.numel()}
    assert large == {total.data_ptr()}
    assert total.untyped_storage().nbytes() == total.nbytes


@pytest.mark.usefixtures("kernels_serve_the_cpu")
def test_what_the_kernel_does_not_do_goes_by_the_calls():
    x, residual, weight, _ = case((4, 24), torch.float32)
    expected = functional.dropout(x, 0.3, True, key=KEY)
    for a, b, shape, w in (
        (x, residual[:1], 24, weight),  # broadcast
        (x.t().contiguous().t(), residual, 24, weight),  # not contiguous
        (x, residual, (4, 24), None),  # served: two dimensions
    ):
        _, total = dropout_add_layer_norm(a, b, shape, w, None, p=0.3, training=True, key=KEY)
        assert torch.equal(total, expected + b)
    p = torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    _, total = dropout_add_layer_norm(x, residual, 24, p=p, training=True, key=KEY)
    assert torch.equal(total, functional.dropout(x, p, True, key=KEY) + residual)
