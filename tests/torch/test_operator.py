"""`torch.library` and the machinery around it: opcheck, fake tensors, compiled code."""

import pytest
import torch
import torch._inductor.config
from tiers import BACKENDS
from torch.library import opcheck

from thinned import Key
from thinned.torch import functional, nn
from thinned.torch._key import key_to_tensor, words_of

BITS = torch.tensor([3, -4])
P = torch.tensor(0.3, dtype=torch.float64)

SAMPLES = [
    (torch.randn(5, 7), BITS, P),
    (torch.randn(5, 7, requires_grad=True), BITS, P, False),
    (torch.randn(7, 5, dtype=torch.bfloat16).t().requires_grad_(), BITS, P, True, [5, 1]),
    (
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        BITS,
        P,
        True,
        None,
        [9, 9, 9, 9],
        [1, 2, 3, 4],
    ),
    (torch.randn(0, 3, requires_grad=True), BITS, P),
    # A key for each of two, and p along one or more dimensions: by the kernel, and by torch's own operators.
    (torch.randn(2, 500, requires_grad=True), torch.tensor([[1, 2], [3, 4]]), P),
    (torch.randn(2, 5, 30, requires_grad=True), torch.tensor([[1, 2], [3, 4]]), torch.rand(1, 5, 1)),
    (torch.randn(3, 4, requires_grad=True), BITS, torch.rand(3, 4)),
]


@pytest.mark.parametrize("arguments", SAMPLES, ids=range(len(SAMPLES)))
def test_opcheck_dropout(arguments):
    opcheck(torch.ops.thinned.dropout.default, arguments)


def test_opcheck_keep_mask():
    opcheck(torch.ops.thinned.keep_mask.default, ([4, 5], BITS, P))
    opcheck(torch.ops.thinned.keep_mask.default, ([4, 5], BITS, P, [8, 8], [1, 2]))


def test_opcheck_fold():
    opcheck(torch.ops.thinned.fold.default, (BITS, torch.tensor(5)))
    opcheck(torch.ops.thinned.fold.default, (torch.randint(9, (3, 1, 2)), torch.randint(9, (4,))))


@pytest.mark.parametrize("stream", [0, 7, 2**63, 2**64 - 1])
def test_fold_of_tensors_is_fold_of_keys(stream):
    bits = key_to_tensor(Key(2**63 + 1, stream))
    data = [0, 1, 2**32, 2**60 - 1]
    folded = torch.ops.thinned.fold(bits, torch.tensor(data))
    for row, number in zip(folded, data, strict=True):
        assert Key(*words_of(row)) == Key(2**63 + 1, stream).fold(number)


def test_keys_in_front_are_one_call_each():
    x, keys = torch.randn(2, 3, 500), torch.tensor([[1, 2], [-3, -(2**63)]])
    y = torch.ops.thinned.dropout(x, keys, P, True, [3, 1])
    for i in range(2):
        alone = functional.dropout(x[i], 0.3, True, key=Key(*words_of(keys[i])), noise_shape=(3, 1))
        assert torch.equal(y[i], alone)


def test_opcheck_draw_key():
    """Random by purpose: what asks for two equal results is left out."""
    opcheck(
        torch.ops.thinned.draw_key.default,
        (torch.empty(2, dtype=torch.int64),),
        test_utils=("test_schema", "test_faketensor"),
    )
    assert torch.Tag.nondeterministic_seeded in torch.ops.thinned.draw_key.default.tags


def strictly(compiled):
    """Where the compiler calls no operator that it does not know."""

    def run(x):
        with torch._inductor.config.patch(implicit_fallbacks=False):
            return compiled(x)

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keyed", [False, True])
def test_compiled_code_has_the_masks_of_eager_code(keyed, backend):
    """And of its own backward; two layers in one graph draw two keys."""
    key = Key(5, 2**63) if keyed else None

    def f(x):
        one = functional.dropout(x, 0.5, True, key=key)
        return one, functional.dropout(x.t(), 0.5, True, key=key.fold(1) if key else None)

    results = []
    for run in (f, strictly(torch.compile(f, fullgraph=True, backend=backend))):
        torch.manual_seed(3)
        x = torch.ones(40, 30, requires_grad=True)
        one, two = run(x)
        torch.manual_seed(3)
        again = run(x)
        assert torch.equal(one, again[0])
        assert torch.equal(two, again[1])
        (one + two.t()).sum().backward()
        results.append((one.detach(), two.detach(), x.grad))
    for eager, compiled in zip(*results, strict=True):
        assert torch.equal(eager, compiled)
    one, two, grad = results[0]
    assert torch.equal(grad, one + two.t())
    assert not torch.equal(one, two.t())


def test_the_compiler_knows_every_operator_of_ours():
    """So that it calls them, also where it is told to call no operator that it does not know."""
    from torch._inductor.lowering import FALLBACK_ALLOW_LIST

    functional.dropout(torch.empty(3, device="meta"), 0.5, True, key=Key(1))  # its shape function runs
    ours = {
        name.partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("thinned::")
    }
    assert "thinned::draw_key" in ours
    assert not {name for name in ours if "mc" not in name} - set(FALLBACK_ALLOW_LIST)


def test_the_module_is_found_wherever_torchs_is_looked_for():
    layer = nn.Dropout(0.3, noise_shape=(None, 1), mode="classic")
    assert isinstance(layer, torch.nn.Dropout)
    assert layer.extra_repr() == "p=0.3, inplace=False, noise_shape=(None, 1), mode='classic'"
    assert repr(nn.Dropout(0.3)) == repr(torch.nn.Dropout(0.3))
    assert layer.state_dict() == {}


def test_classic_evaluates_to_the_expectation():
    x = torch.randn(50)
    layer = nn.Dropout(0.25, mode="classic")
    y = layer(x)
    assert torch.equal(y[y != 0], x[y != 0])
    assert torch.equal(layer.eval()(x), x * 0.75)
