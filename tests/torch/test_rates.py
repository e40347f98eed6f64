"""A p for each of several parts, and keys for each, in one call of the kernel: the bits of one call each."""

import itertools

import pytest
import torch

from thinned import Key
from thinned.torch import functional
from thinned.torch._key_tensor import words_of

KEY = Key(9)
SHAPE = (3, 4, 5)
INPUTS = {
    "contiguous": lambda x: x.clone(),
    "transposed": lambda x: x.mT.contiguous().mT,
    "turned": lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    "expanded": lambda x: x[:1].expand(SHAPE),
    "sliced": lambda x: x.repeat(1, 1, 2)[..., ::2],
}


def one_by_one(x, p, **place):
    """Each element by a call of its own, told where it stands."""
    out = torch.empty(SHAPE, dtype=x.dtype)
    whole = place.get("global_shape", SHAPE)
    first = place.get("start", (0,) * 3)
    for index in itertools.product(*map(range, SHAPE)):
        at = tuple(a + b for a, b in zip(first, index, strict=True))
        rate = float(p.expand(SHAPE)[index])
        out[index] = functional.dropout(
            x[index].reshape(1, 1, 1), rate, True, key=KEY, global_shape=whole, start=at
        )
    return out


@pytest.mark.parametrize("layout", INPUTS)
@pytest.mark.parametrize(
    "sizes", [(3, 1, 1), (1, 4, 1), (1, 1, 5), (3, 4, 1), (3, 1, 5), (3, 4, 5), (1, 1, 1)]
)
def test_a_p_for_each_part(sizes, layout):
    p = torch.rand(sizes, generator=torch.Generator().manual_seed(1))
    p.view(-1)[0] = 1.0
    p.view(-1)[-1] = 0.0
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = INPUTS[layout](torch.randn(SHAPE).to(dtype))
        for place in ({}, {"global_shape": (9, 9, 9), "start": (1, 2, 3)}):
            y = functional.dropout(x, p, True, key=KEY, **place)
            assert torch.equal(y, one_by_one(x, p, **place))
            assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("sizes", [(3, 1, 1), (1, 4, 1), (3, 4, 1), (1, 1, 1)])
def test_with_shared_decisions_and_classic_scaling(sizes):
    p = torch.rand(sizes)
    x = torch.randn(SHAPE)
    y = functional.dropout(x, p, True, key=KEY, noise_shape=(None, 1, None), mode="classic")
    for i, j in itertools.product(range(3), range(4)):
        rate = float(p.expand(3, 4, 1)[i, j, 0])
        alone = functional.dropout(
            x[i : i + 1, j : j + 1],
            rate,
            True,
            key=KEY,
            noise_shape=(None, 1, None),
            mode="classic",
            global_shape=(3, 1, 5),
            start=(i, 0, 0),
        )
        assert torch.equal(y[i, j], alone[0, 0])


@pytest.mark.parametrize("sizes", [(), (2, 1, 1, 1), (1, 3, 1, 1), (2, 3, 4, 1), (1, 1, 1, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("lead", [1, 2, 3])
def test_keys_and_rates_together(lead, sizes, path):
    x = torch.randn(2, 3, 4, 5)
    keys = torch.randint(-(2**62), 2**62, (*x.shape[:lead], 2))
    p = torch.rand(sizes, dtype=torch.float64)
    y = torch.ops.thinned.dropout(x, keys, p)
    for index in itertools.product(*map(range, x.shape[:lead])):
        rate = p.expand(x.shape)[index] if sizes else p
        rate = rate if not sizes else rate.clone()
        alone = functional.dropout(x[index], rate, True, key=Key(*words_of(keys[index])))
        assert torch.equal(y[index], alone)


def test_gradients_by_rows():
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    p = torch.rand(3, 1, 5)
    assert torch.autograd.gradcheck(lambda x: functional.dropout(x, p, True, key=KEY), x, fast_mode=True)
