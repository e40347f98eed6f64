"""Attention with dropout on a GPU: the CPU's masks to the bit, results and gradients to rounding."""

import pytest
import torch

from thinned import Key
from thinned.torch import _cuda, functional

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] < 8,
    reason="no CUDA device of compute capability 8.0: these tests run on a machine that has one",
)

KEY = Key(2**63 + 11, 2**40 + 3)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def numbers(shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def operands(batch, heads, L, S, E, EV, dtype=torch.float32):
    shapes = ((*batch, L, E), (*batch[:-1], heads, S, E), (*batch[:-1], heads, S, EV))
    return [numbers(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def close(gpu, cpu, dtype):
    error = (gpu.detach().cpu().double() - cpu.detach().double()).abs().max().item()
    return gpu.isfinite().all() and error <= TOLERANCE[dtype] * max(1.0, cpu.abs().max().item())


def same(tensors, mask=None, causal=False, p=0.3, dtype=torch.float32, **options):
    """Result and gradients there, and in float64 here."""
    options = {"enable_gqa": True, "training": True, "dropout_key": KEY, **options}
    here = [each.double().requires_grad_() for each in tensors]
    there = [each.cuda().requires_grad_() for each in tensors]
    added = mask is not None and mask.is_floating_point()
    masks = [mask, mask if mask is None else mask.cuda()]
    if added:
        masks = [masks[0].double().requires_grad_(), masks[1].requires_grad_()]
        here, there = [*here, masks[0]], [*there, masks[1]]
    call = functional.scaled_dot_product_attention
    ours = call(*there[:3], masks[1], p, causal, **options)
    theirs = call(*here[:3], masks[0], p, causal, **options)
    assert close(ours, theirs, dtype)
    upstream = numbers(ours.shape, dtype, 7)
    found = torch.autograd.grad(ours, there, upstream.cuda())
    for one, other in zip(found, torch.autograd.grad(theirs, here, upstream.double()), strict=True):
        assert close(one, other, dtype)


@pytest.fixture(autouse=True)
def _served(monkeypatch):
    """No test passes by another way than the kernels'."""
    assert _cuda.has_triton()
    monkeypatch.setattr("thinned.torch._attention._operator._blocks", None)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("E", [1, 3, 64, 80, 96, 128, 200, 256])
def test_widths(E, causal, dtype):
    same(operands((2, 4), 2, 300, 264, E, E, dtype), causal=causal, dtype=dtype)


LENGTHS = [(1, 1), (1, 1000), (1000, 1), (7, 5), (130, 515), (515, 130), (2048, 2048)]


@pytest.mark.parametrize(("L", "S"), LENGTHS)
def test_lengths(L, S):
    for causal in (False, True):
        same(operands((1, 4), 1, L, S, 64, 32, torch.bfloat16), causal=causal, dtype=torch.bfloat16)


def test_masks_of_queries():
    L, S = 200, 333
    seen = torch.rand(L, S, generator=torch.Generator().manual_seed(1)) < 0.5
    seen[5] = False
    infinite = torch.where(seen, 0.5, -torch.inf)
    for mask in (seen, seen[:1], infinite, numbers((2, 1, 1, S)), numbers((4, L, S))):
        same(operands((2, 4), 2, L, S, 64, 64), mask)


def mask_found(L, S, heads=2, **place):
    """By the identity for V."""
    q, k = (torch.zeros(1, heads, n, 16, device="cuda", dtype=torch.bfloat16) for n in (L, S))
    found = []
    for first in range(0, S, 256):
        v = torch.zeros(S, 256, device="cuda", dtype=torch.bfloat16)
        v[first : first + 256] = torch.eye(min(256, S - first), 256)
        out = functional.scaled_dot_product_attention(
            *(q, k, v.expand(1, heads, S, 256), None, 0.1), training=True, dropout_key=KEY, **place
        )
        found.append(out[..., : min(256, S - first)] != 0)
    return torch.cat(found, -1).cpu()


@pytest.mark.parametrize(("L", "S"), [(300, 1024), (300, 1021), (64, 7)])
def test_masks_equal_the_cpus(L, S):
    whole = {"global_shape": (2**10, 2**6, 2**20, 2**22 + 1), "start": (1000, 60, 2**20 - L, 2**21)}
    for place in ({}, whole):
        found = mask_found(L, S, **place)
        ones = functional.dropout(torch.ones(1, 2, L, S), 0.1, True, key=KEY, **place)
        assert torch.equal(found, ones != 0)


def test_each_head_its_p():
    p = torch.tensor([0.1, 0.0, 1.0, 0.7], dtype=torch.float64).reshape(1, 4, 1, 1)
    same(operands((2, 4), 2, 100, 120, 64, 64), p=p)


def test_what_the_kernels_do_not_serve_goes_another_way(monkeypatch):
    monkeypatch.undo()
    same([each.double() for each in operands((2, 4), 2, 30, 40, 16, 16)], dtype=torch.float32)
    same(operands((2, 4), 2, 30, 40, 300, 16))
    p = torch.full((1, 1, 30, 1), 0.3)
    same(operands((2, 4), 2, 30, 40, 16, 16), p=p)


def test_two_runs_are_equal():
    runs = []
    for _ in range(2):
        tensors = [each.cuda().requires_grad_() for each in operands((2, 8), 2, 500, 500, 64, 64)]
        out = functional.scaled_dot_product_attention(
            *tensors, None, 0.1, True, enable_gqa=True, training=True, dropout_key=KEY
        )
        runs.append((out, *torch.autograd.grad(out.sum(), tensors)))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_no_memory_of_the_scores_size():
    L = 8192
    tensors = [torch.randn(1, 8, L, 64, device="cuda", requires_grad=True) for _ in range(3)]
    call = functional.scaled_dot_product_attention
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(*tensors, None, 0.1, training=True, dropout_key=KEY).sum().backward()
    most = torch.cuda.max_memory_allocated() - before
    results = 5 * tensors[0].numel() * 4  # out, its gradient, three gradients
    assert most - results <= 2**26
