"""Attention by tiles: its numbers, its memory, and that no thread changes a bit."""

import gc
import math
import re
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import Key, _kernel
from thinned.torch.functional import scaled_dot_product_attention as attend

KEY = Key(3, 4)
# Of the largest entry: sums of a few hundred products, and one rounding of each result. Scores of
# float16 and bfloat16 are summed in float32.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 1.5e-3, torch.bfloat16: 1.2e-2}


def operands(batch, heads, served, length, keys, width, value_width, dtype=torch.float32):
    """As models have them: (batch, length, heads, width), turned."""
    generator = torch.Generator().manual_seed(length)
    sizes = ((length, heads, width), (keys, served, width), (keys, served, value_width))
    return [
        torch.randn(batch, *each, generator=generator).to(dtype).transpose(1, 2).requires_grad_()
        for each in sizes
    ]


def exact(query, key, value, mask, p, causal):
    """The formula in float64."""
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    kept = torch.from_numpy(thinned.keep_mask(tuple(weights.shape), p, key=KEY))
    return torch.where(kept, weights * thinned.scale(p), 0.0) @ value


CASES = [
    ((2, 4, 2, 5, 7, 4, 3), torch.float32, "bool"),
    ((1, 2, 1, 64, 256, 64, 64), torch.float32, "causal"),
    ((1, 2, 2, 70, 300, 40, 24), torch.float32, "added"),
    ((1, 1, 1, 530, 33, 16, 80), torch.float32, "all"),
    ((1, 2, 1, 70, 300, 64, 40), torch.bfloat16, "causal"),
    ((2, 4, 2, 33, 40, 24, 8), torch.bfloat16, "bool"),
    ((1, 2, 2, 70, 270, 16, 24), torch.bfloat16, "added"),
    ((1, 2, 1, 70, 60, 16, 24), torch.float16, "all"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_equal_the_formula_in_float64(path, case):
    sizes, dtype, seen = case
    arguments = operands(*sizes, dtype)
    generator = torch.Generator().manual_seed(5)
    length, keys = sizes[3:5]
    mask = None
    if seen == "bool":
        mask = torch.rand(length, keys, generator=generator) < 0.7
        mask[1] = False
    elif seen == "added":
        mask = torch.randn(sizes[1], 1, keys, generator=generator)
    got = attend(*arguments, mask, 0.3, seen == "causal", enable_gqa=True, training=True, dropout_key=KEY)
    doubles = [each.detach().double().requires_grad_() for each in arguments]
    expected = exact(*doubles, mask, 0.3, seen == "causal")
    upstream = torch.randn(got.shape, generator=generator).to(dtype)
    gradients = torch.autograd.grad(got, arguments, upstream)
    expected_gradients = torch.autograd.grad(expected, doubles, upstream.double())
    for one, other in zip((got, *gradients), (expected, *expected_gradients), strict=True):
        assert one.dtype == dtype
        apart = (one.double() - other).detach().abs().max() / other.detach().abs().max()
        assert float(apart) < TOLERANCE[dtype]


@pytest.mark.parametrize("sizes", [(1, 3, 1, 150, 270, 16, 24), (1, 1, 1, 70, 2100, 8, 8)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_bit_depends_on_the_threads(path, sizes, dtype):
    if path == _kernel.REFERENCE:
        pytest.skip("the products are torch's, whose sums its threads divide")
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            arguments = operands(*sizes, dtype)
            y = attend(*arguments, None, 0.2, enable_gqa=True, training=True, dropout_key=KEY)
            results.append((y, *torch.autograd.grad(y.square().sum(), arguments)))
        finally:
            torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_a_checkpoint_computes_again_is_equal():
    runs = []
    for run in (lambda f, *args: f(*args), lambda f, *args: checkpoint(f, *args, use_reentrant=False)):
        arguments = operands(1, 2, 2, 70, 300, 16, 16)
        torch.manual_seed(1)
        y = run(lambda *a: attend(*a, None, 0.2, training=True), *arguments)
        runs.append((y, *torch.autograd.grad(y.square().sum(), arguments)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_query_that_looks_nowhere_has_no_gradient(path):
    arguments = operands(1, 1, 1, 3, 5, 4, 4)
    for hidden in (torch.zeros(3, 5, dtype=torch.bool), torch.full((3, 5), -torch.inf)):
        y = attend(*arguments, hidden, 0.5, training=True, dropout_key=KEY)
        assert not y.any()
        for gradient in torch.autograd.grad(y.sum(), arguments):
            assert not gradient.any()


def test_results_lie_as_the_operands_do(path):
    """So that a model's `y.transpose(1, 2).reshape(…)` copies nothing."""
    arguments = operands(2, 4, 4, 6, 6, 8, 8)
    y = attend(*arguments, None, 0.5, training=True)
    assert y.transpose(1, 2).is_contiguous()
    for one, gradient in zip(arguments, torch.autograd.grad(y.sum(), arguments), strict=True):
        assert gradient.stride() == one.stride()


def test_a_mask_that_learns(path):
    arguments = operands(2, 4, 2, 6, 9, 8, 8, torch.float32)
    for shape in ((6, 9), (4, 1, 9), (2, 1, 6, 1), (1, 1, 1, 1)):
        mask = torch.randn(shape, requires_grad=True)
        y = attend(*arguments, mask, 0.3, enable_gqa=True, training=True, dropout_key=KEY)
        double = mask.detach().double().requires_grad_()
        expected = exact(*(each.detach().double() for each in arguments), double, 0.3, False)
        (gradient,) = torch.autograd.grad(y.square().sum(), mask)
        (other,) = torch.autograd.grad(expected.square().sum(), double)
        torch.testing.assert_close(gradient.double(), other, rtol=1e-4, atol=1e-5)


STATUS, REFRESH = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()).group(1)) << 10


@pytest.mark.skipif(not REFRESH.exists(), reason="the peak of memory is read where Linux can forget it")
@pytest.mark.parametrize(
    ("length", "allowed"), [(2048, 32 << 20), pytest.param(8192, 64 << 20, marks=pytest.mark.full)]
)
def test_memory_beside_inputs_and_outputs(length, allowed):
    """Where the probabilities would take 128 MiB and 2 GiB."""
    if _kernel.path() == _kernel.REFERENCE:
        pytest.skip("the reference has no kernel")
    arguments = operands(1, 8, 8, 64, 64, 64, 64)
    attend(*arguments, None, 0.1, training=True).sum().backward()  # what is loaded once
    arguments = operands(1, 8, 8, length, length, 64, 64)
    upstream = torch.ones(1, 8, length, 64)
    gc.collect()
    REFRESH.write_text("5")
    before = peak()
    y = attend(*arguments, None, 0.1, training=True)
    gradients = torch.autograd.grad(y, arguments, upstream)
    outputs = sum(each.nbytes for each in (y, *gradients))
    assert peak() - before - outputs <= allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("hidden", [-1e6, -1e9, 1e9, torch.finfo(torch.float32).min])
def test_a_row_hidden_by_a_large_number_has_the_gradients_of_its_average(path, hidden, dtype):
    """Its scores are all equal, or nearly: where padding is all of a row, and its number is not -inf."""
    arguments = operands(1, 2, 1, 9, 40, 8, 6, dtype)
    mask = torch.zeros(9, 40)
    mask[4] = hidden
    mask[5, :20] = hidden
    y = attend(*arguments, mask, 0.3, enable_gqa=True, training=True, dropout_key=KEY)
    found = (y, *torch.autograd.grad(y, arguments, torch.ones_like(y)))
    wide = [each.detach().float().requires_grad_() for each in arguments]
    expected = exact(*wide, mask, 0.3, False)  # in float32, where a score of 1 is lost beside 1e9
    others = (expected, *torch.autograd.grad(expected, wide, torch.ones_like(expected)))
    for one, other in zip(found, others, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0, atol=TOLERANCE[dtype] * 10)


def test_large_scores_have_gradients_as_right_as_the_result(path):
    arguments = [(300 * each.detach()).requires_grad_() for each in operands(1, 2, 2, 9, 40, 64, 6)]
    y = attend(*arguments, None, 0.3, scale=4.0, training=True, dropout_key=KEY)
    (gradient,) = torch.autograd.grad(y.sum(), arguments[2:])
    # In each row one probability is 1 and the others 0: each query gives to one key, times the scale or not.
    shares = gradient / thinned.scale(0.3)
    torch.testing.assert_close(shares, shares.round(), rtol=0, atol=1e-5)


def test_rows_of_nan_have_gradients_of_nan(path):
    query, key, value = operands(1, 1, 1, 3, 5, 4, 4)
    with torch.no_grad():
        query[0, 0, 1] = math.nan
    y = attend(query, key, value, None, 0.2, training=True, dropout_key=KEY)
    (gradient,) = torch.autograd.grad(y[0, 0, [0, 2]].sum(), query)
    assert y[0, 0, 1].isnan().all()
    assert gradient[0, 0, 1].isnan().all()
    assert gradient[0, 0, [0, 2]].isfinite().all()
