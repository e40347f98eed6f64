"""The backward pass has the mask of the forward pass, however the two are run.

Ones in, ones as the upstream gradient: what is zero in y is zero in x.grad, bit for bit.
"""

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.torch import functional

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LAYOUTS = {
    "contiguous": lambda dtype: torch.ones(9, 40, dtype=dtype),
    "transposed": lambda dtype: torch.ones(40, 9, dtype=dtype).t(),
    "strided": lambda dtype: torch.ones(18, 120, dtype=dtype)[::2, ::3],
    "channels_last": lambda dtype: torch.ones(2, 5, 6, 4, dtype=dtype).to(memory_format=torch.channels_last),
}


def plain(x, key):
    # A product beside it, so that a checkpoint has something to recompute.
    return functional.dropout(x * 1.0, 0.5, True, key=key) * 1.0


def checkpointed(x, key):
    return checkpoint(plain, x, key, use_reentrant=False)


def without_generator_state(x, key):
    return checkpoint(plain, x, key, use_reentrant=False, preserve_rng_state=False)


RUNS = [
    (plain, None),
    (plain, Key(5, 2**63)),
    (checkpointed, None),
    (checkpointed, Key(5)),
    (without_generator_state, Key(5)),
]
IDS = [f"{run.__name__}-{'keyed' if key else 'drawn'}" for run, key in RUNS]


@pytest.mark.parametrize(("run", "key"), RUNS, ids=IDS)
def test_forward_and_backward_have_one_mask(run, key):
    """Over four layouts and four dtypes, all of which one mask serves."""
    for layout, make in LAYOUTS.items():
        masks = [check(run, make(dtype), key, f"{layout} {dtype}") for dtype in DTYPES]
        assert all(torch.equal(masks[0], other) for other in masks), f"{layout}: masks differ between dtypes"


# The compiler makes a graph for each: every layout with one dtype, and each of these with eager code's mask.
# A layout is the operator's business, and how it is run autograd's. Generated code has two draws below, and
# takes 8 s for each.
COMPILED = [("aot_eager", *run) for run in RUNS]
LATER = [pytest.param("inductor", *run, marks=pytest.mark.full) for run in RUNS]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize(
    ("backend", "run", "key"),
    [*COMPILED, *LATER],
    ids=[f"{b}-{i}" for b in ("aot", "generated") for i in IDS],
)
@pytest.mark.covering(strength=1)
@pytest.mark.parametrize(("layout", "dtype"), list(zip(LAYOUTS, DTYPES, strict=True)), ids=list(LAYOUTS))
def test_forward_and_backward_have_one_mask_in_compiled_code(backend, run, key, layout, dtype):
    torch._dynamo.reset()
    call = torch.compile(run, fullgraph=True, backend=backend, dynamic=False)
    check(call, LAYOUTS[layout](dtype), key, f"{layout} {dtype}")


def check(call, x, key, what):
    """The mask, which is eager code's, in the outputs and in the gradient."""
    torch.manual_seed(7)
    x = x.requires_grad_()
    y = call(x, key)
    torch.manual_seed(7)
    eager = plain(x.detach(), key)
    y.backward(torch.ones_like(y))
    assert torch.equal(y, eager), f"{what}: not what eager code gives"
    assert torch.equal(x.grad == 0, y == 0), f"{what}: the gradient has another mask"
    assert torch.equal(x.grad, y), f"{what}: the gradient has another scale"
    assert 0.2 < (y == 0).float().mean() < 0.8
    return (y != 0).detach()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("around", [pytest.param(checkpointed, marks=pytest.mark.full), plain])
def test_two_draws_in_one_graph_are_two_masks(around, backend):
    """A compiler that takes two calls for one expression would merge them; a second run draws again."""

    def two(x):
        return around(x, None), around(x, None)

    torch._dynamo.reset()
    x = torch.ones(1000, requires_grad=True)
    compiled = torch.compile(two, fullgraph=True, backend=backend)
    masks = [y.detach() for _ in range(2) for y in compiled(x)]
    for one, other in itertools.combinations(masks, 2):
        assert not torch.equal(one, other)
    one, other = compiled(x)
    (one + other).sum().backward()
    assert torch.equal(x.grad, (one + other).detach()), "a gradient has another mask"
