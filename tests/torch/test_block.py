"""DropBlock: outputs, shares and gradients are those of the plain reference, however it is run."""

import math

import pytest
import torch
from torch.library import opcheck
from torch_plain_blocks import VERBS, covering, plain, plain_dropped

from thinned import Key
from thinned.torch import functional
from thinned.torch._block import seed_rate

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
CASES = [
    ((10,), (3,)),
    ((9,), (4,)),
    ((6, 7), (2, 2)),
    ((5, 8), (3, 3)),
    ((5, 5), (5, 5)),
    ((4, 9), (1, 4)),
    ((4, 5, 3), (2, 3, 2)),
]


@pytest.mark.parametrize(("sizes", "block"), CASES)
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_the_expected_share_is_p(sizes, block, p):
    """Exactly, by listing the blocks over every element: even sides, borders and overlaps included."""
    gamma = seed_rate(p, sizes, block)
    dropped = [1 - (1 - gamma) ** len(over) for _, over in covering(sizes, block)]
    assert math.isclose(math.fsum(dropped) / len(dropped), p, rel_tol=1e-9, abs_tol=1e-13)


def test_the_papers_rate_is_another():
    """γ = p / block² · map / places, which ignores overlaps, drops 0.21 where it should drop 0.25."""
    p, sizes, block = 0.25, (14, 14), (7, 7)
    gamma = p / 49 * 14**2 / 8**2
    dropped = [1 - (1 - gamma) ** len(over) for _, over in covering(sizes, block)]
    assert round(math.fsum(dropped) / len(dropped), 4) == 0.2095


@pytest.mark.parametrize("block", [3, 4])
def test_the_share_of_every_sample_is_p(block):
    """Over many channels, which are independent: |z| < 5 in each sample."""
    n, c, p = 6, 3000, 0.2
    y = functional.drop_block2d(torch.ones(n, c, 8, 9), p, block, True, key=Key(11))
    shares = (y == 0).double().mean((2, 3))
    for sample in shares:
        z = (sample.mean() - p) / (sample.std() / c**0.5)
        assert abs(z) < 5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("sizes", "block"), CASES)
def test_outputs_equal_the_plain_reference(sizes, block, dtype):
    shape = (3, 4, *sizes)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = VERBS[len(sizes)](x, 0.3, block, True, key=Key(5, 1))
    assert torch.equal(got, plain(x, 0.3, block, Key(5, 1)))
    assert (got == 0).any()
    assert got.dtype == dtype


def test_even_blocks_fill_the_map():
    """Torchvision pads even blocks by one too many on a side: here each is whole and within the map."""
    x = torch.ones(1, 4000, 4, 4)
    y = functional.drop_block2d(x, 0.05, 2, True, key=Key(3))
    dropped = (y == 0)[0]
    assert {int(n) for n in dropped.sum((1, 2)).unique()} >= {0, 4}
    assert not (dropped.sum((1, 2)) < 4).logical_and(dropped.any(2).any(1)).any()
    corners = dropped.double().mean(0)[[0, 0, -1, -1], [0, -1, 0, -1]]
    gamma = seed_rate(0.05, (4, 4), (2, 2))
    assert bool(((corners - gamma).abs() < 5 * (gamma / 4000) ** 0.5).all())


def test_a_sample_does_not_depend_on_the_batch():
    x = torch.randn(7, 4, 6, 6)
    alone = functional.drop_block2d(x[:2], 0.3, 3, True, key=Key(1))
    assert torch.equal(functional.drop_block2d(x, 0.3, 3, True, key=Key(1))[:2], alone)


def test_the_mean_of_a_sample_is_kept():
    y = functional.drop_block2d(torch.ones(5, 3, 8, 8, dtype=torch.float64), 0.4, 3, True, key=Key(2))
    assert torch.allclose(y.mean((1, 2, 3)), torch.ones(5, dtype=torch.float64), rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [1.0, math.nan, math.inf])
def test_forward_and_backward_have_one_mask(bad, dtype):
    x = torch.full((2, 3, 6, 6), bad, dtype=dtype, requires_grad=True)
    y = functional.drop_block2d(x, 0.4, 2, True, key=Key(4))
    y.backward(torch.full_like(y, bad))
    dropped = plain_dropped((2, 3, 6, 6), 0.4, (2, 2), Key(4))
    for tensor in (y.detach(), x.grad):
        assert not tensor[dropped].double().view(torch.int64).any()
        assert bool((tensor != 0).eq(~dropped).all())
    assert torch.equal(torch.nan_to_num(y.detach()), torch.nan_to_num(x.grad))


BITS = torch.tensor([3, -4])


@pytest.mark.parametrize(
    ("x", "p"),
    [
        (torch.randn(2, 3, 5, 6, requires_grad=True), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6).to(memory_format=torch.channels_last), torch.tensor(0.3)),
        (torch.randn(6, 5, 3, 2, dtype=torch.bfloat16).permute(3, 2, 1, 0), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6)[..., ::2], torch.tensor(0.3)),
        (torch.randn(1, 3, 1, 6).expand(2, 3, 5, 6), torch.tensor(0.3)),
        (torch.randn(0, 3, 5, 6), torch.tensor(0.3)),
        (torch.randn(2, 3, 5, 6, requires_grad=True), torch.rand(2, 1, 1, 1)),
    ],
    ids=["grad", "channels_last", "permuted", "sliced", "expanded", "empty", "p of samples"],
)
def test_opcheck(x, p):
    opcheck(torch.ops.thinned.drop_block.default, (x, BITS, p.double(), [2, 3]))


def test_layouts_have_the_mask_of_the_logical_index():
    x = torch.randn(2, 4, 6, 6)
    expected = functional.drop_block2d(x, 0.3, 2, True, key=Key(1))
    other = functional.drop_block2d(x.to(memory_format=torch.channels_last), 0.3, 2, True, key=Key(1))
    assert torch.equal(other, expected)
    assert other.is_contiguous(memory_format=torch.channels_last)
