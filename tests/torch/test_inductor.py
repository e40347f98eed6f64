"""`thinned.torch.inductor`: masks in the kernels of their neighbours, with the bits of the operator."""

import pytest
import torch
from known_answers import NUMBERS
from torch.fx.experimental.proxy_tensor import make_fx

from thinned import Key
from thinned.torch import _key, functional, inductor

KEY = Key(2**63 + 11, 2**40 + 3)
BITS = _key.key_to_tensor(KEY)
APART = inductor.decompositions()
DROPOUT = APART[torch.ops.thinned.dropout.default]


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def rate(p):
    return torch.tensor(p, dtype=torch.float64)


def same(ours, theirs):
    return (
        ours.dtype == theirs.dtype
        and torch.equal(ours, theirs)
        and torch.equal(ours.signbit(), theirs.signbit())
    )


X = numbers(6, 8, 10)


@pytest.mark.parametrize(
    ("x", "key", "p", "rest"),
    [
        *(
            (numbers(6, 8, 10, dtype=d), BITS, rate(0.3), ())
            for d in (torch.float64, torch.float16, torch.bfloat16)
        ),
        *((X, BITS, rate(p), ()) for p in (0.0, 2.0**-32, 0.5, 1 - 2.0**-32, 1.0)),
        (X, BITS, rate(0.3), (False,)),
        (X.movedim(0, -1), BITS, rate(0.3), ()),
        (X, BITS, rate(0.3), (True, [6, 1, 10])),
        (X, BITS, rate(0.3), (True, None, [2**40, 9, 99], [2**39, 1, 7], [2**30, 1, 2])),
        (X, torch.stack([BITS + i for i in range(6)]), rate(0.3), ()),
        (X, BITS, torch.linspace(0, 1, 8, dtype=torch.float64).reshape(1, 8, 1), ()),
    ],
)
def test_what_an_operator_is_taken_apart_into_has_its_bits(x, key, p, rest):
    assert same(DROPOUT(x, key, p, *rest), torch.ops.thinned.dropout(x, key, p, *rest))


def test_the_whole_number_of_a_position_decides():
    for position, own in NUMBERS.items():
        for more in (0, 1):
            where = (True, None, [2**36], [position])
            y = DROPOUT(torch.ones(1), torch.tensor([5, 5]), rate((own + more) / 2**32), *where)
            assert bool(y != 0) == (not more)


def branch(x, residual, p=0.3):
    return functional.dropout_add(torch.relu(x) * 2, residual, p, True, key=KEY) + 1


def there_and_back(x, residual, upstream):
    x, residual = (t.detach().requires_grad_() for t in (x, residual))
    y = branch(x, residual)
    return y, *torch.autograd.grad(y, (x, residual), upstream)


def test_no_operator_of_ours_is_left_forward_and_backward():
    inputs = [numbers(6, 20) for _ in range(3)]
    graph = make_fx(there_and_back, decomposition_table=APART)(*inputs)
    assert all(same(a, b) for a, b in zip(graph(*inputs), there_and_back(*inputs), strict=True))
    names = [str(node.target) for node in graph.graph.nodes]
    assert "aten.mul.Tensor" in names
    assert {name for name in names if "thinned" in name} == {"thinned.kept.default", "thinned.once.default"}


@pytest.mark.full  # 20 s: Inductor and a C++ compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_and_mask_are_one_loop(dtype):
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    torch._dynamo.reset()
    x, residual = numbers(64, 64, dtype=dtype), numbers(64, 64, dtype=dtype)
    if dtype == torch.float32:  # whose code Inductor stores, and is not to give out for the other's
        torch.compile(branch, backend="inductor", fullgraph=True)(x, residual)
    compiled = torch.compile(branch, backend=inductor.fused, fullgraph=True)
    with config.patch(emulate_precision_casts=True):
        y, (code,) = run_and_get_code(compiled, x, residual)
    assert same(y, branch(x, residual))
    assert "ops.thinned" not in code
    # One loop over the elements; the other kernel makes the threshold and the factor of p, of one element.
    loops = [kernel for kernel in code.split("cpp_pybinding")[1:] if "4096L" in kernel]
    assert len(loops) == 1
    assert "0xD2511F53" in loops[0] or str(0xD2511F53 - 2**32) in loops[0]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_backward_and_other_sizes_have_the_mask_of_eager_code():
    torch._dynamo.reset()
    compiled = torch.compile(branch, backend=inductor.fused, fullgraph=True, dynamic=True)
    for rows in (5, 9):
        results = []
        for run in (branch, compiled):
            x, residual = numbers(rows, 24).requires_grad_(), numbers(rows, 24).requires_grad_()
            y = run(x, residual)
            results.append((y, *torch.autograd.grad(y, (x, residual), numbers(rows, 24))))
        assert all(same(a, b) for a, b in zip(*results, strict=True))
