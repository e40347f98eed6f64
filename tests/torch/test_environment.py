"""After `torch.set_flush_denormal(True)` results are what they were, on one thread and on torch's team."""

import pytest
import torch

from thinned import Key
from thinned.torch import functional

SMALLEST = {
    torch.float32: 2.0**-149,
    torch.float64: 2.0**-1074,
    torch.float16: 2.0**-24,
    torch.bfloat16: 2.0**-133,
}
CALLS = {
    "dropout": lambda x: functional.dropout(x, 0.3, True, key=Key(1)),
    "in place": lambda x: functional.dropout(x.clone(), 0.3, True, inplace=True, key=Key(1)),
    "strided": lambda x: functional.dropout(x[::2], 0.3, True, key=Key(1)),
    "gradient": lambda x: _gradient(x),
    "classic, evaluating": lambda x: functional.dropout(x, 0.3, False, mode="classic"),
    "nothing dropped": lambda x: functional.dropout(x, 1e-12, True, key=Key(1)),
    "all dropped": lambda x: functional.dropout(x, 1.0, True, key=Key(1)),
    "residual": lambda x: functional.dropout_add(x, x, 0.3, True, key=Key(1)),
}


def _gradient(x):
    leaf = torch.ones_like(x, requires_grad=True)
    functional.dropout(leaf, 0.3, True, key=Key(1)).backward(x)
    return leaf.grad


def bits(x):
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return x.contiguous().view(whole)


@pytest.mark.parametrize("dtype", SMALLEST)
@pytest.mark.parametrize("name", CALLS)
def test_flushing(name, dtype):
    x = (torch.arange(1, 100_001, dtype=torch.float64) % 90 * SMALLEST[dtype]).to(dtype)
    x[::3] = torch.randn(x[::3].numel(), generator=torch.Generator().manual_seed(0)).to(dtype)
    threads, expected = torch.get_num_threads(), bits(CALLS[name](x))
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.set_flush_denormal(True)
            got = bits(CALLS[name](x))
            still = (torch.full((8,), 1e-40) * 2).abs().max() == 0
            torch.set_flush_denormal(False)
            assert torch.equal(got, expected), count
            assert still, "the caller's mode is lost"
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
