"""The kernel of numbers by a key: those of torch's operators, to the bit."""

import pytest
import torch

from thinned import Key
from thinned._position import row_major
from thinned.torch import _cuda, _key, _numbers
from thinned.torch._triton import _launch

pytestmark = pytest.mark.usefixtures("kernels_serve_the_cpu")
KEY = Key(2**63 + 11, 2**40 + 3)
BITS = _key.key_to_tensor(KEY)


@pytest.mark.parametrize("kind", ["word", "uniform", "middle", "normal"])
@pytest.mark.parametrize(
    ("key", "shape", "rest"),
    [
        (BITS, (3, 50), ()),
        (BITS, (4, 1, 6), ([-1, 1, -1], [9, 7, 8], [1, 2, 2], [2, 1, 1])),
        (torch.stack([BITS, BITS + 1]), (5, 3), ()),
        pytest.param(BITS, (), (), marks=pytest.mark.full),
        pytest.param(BITS, (0, 3), (), marks=pytest.mark.full),
    ],
)
def test_numbers(monkeypatch, kind, key, shape, rest):
    found = []
    for served in (True, False):
        monkeypatch.setattr(_cuda, "serves", lambda input, served=served: served)
        found.append(torch.ops.thinned.numbers(key, shape, kind, torch.empty(0), *rest))
    assert found[0].dtype == found[1].dtype
    assert torch.equal(*found)


@pytest.mark.usefixtures("small_tensors_are_read_in_the_kernel")
def test_the_key_is_read_by_the_kernel():
    like = torch.empty(40)
    ours = _numbers.normal(like, KEY)
    assert torch.equal(ours, _launch.numbers(torch.empty(40), BITS, 0, row_major((40,)), "normal"))
