"""The PyTorch front end: equal bits with NumPy, gradients, layouts, keys."""

import ml_dtypes
import numpy as np
import pytest
import torch
from known_answers import NUMBERS
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import Key, contract, threshold
from thinned._position import row_major
from thinned.torch import _eager, _plain
from thinned.torch.functional import dropout, keep_mask

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def to_numpy(x):
    """The same bits as an array; bfloat16 by way of ml_dtypes."""
    x = x.detach().contiguous()
    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def layouts(dtype=torch.float32, requires_grad=False):
    """Inputs of logical shape (2, 6, 4, 5) in four layouts, each with its name."""
    values = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    wide = torch.zeros(2, 6, 4, 11, dtype=dtype)
    wide[..., 1:11:2] = values
    made = {
        "contiguous": values.clone(),
        "transposed": values.transpose(1, 3).contiguous().transpose(1, 3),
        "sliced": wide[..., 1:11:2],
        "channels_last": values.to(memory_format=torch.channels_last),
    }
    for x in made.values():
        assert torch.equal(x, values)
    return {name: x.requires_grad_(requires_grad) for name, x in made.items()}


LAYOUTS = list(layouts())


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_equal_numpys_to_the_bit(layout, dtype, training, mode):
    x = layouts(dtype)[layout]
    for kwargs in (
        {},
        {"noise_shape": (2, None, 1, 1)},
        {"global_shape": (9, 9, 9, 9), "start": (1, 2, 3, 4)},
    ):
        got = dropout(x, 0.3, training, key=Key(7, 1), mode=mode, **kwargs)
        expected = thinned.dropout(to_numpy(x), 0.3, key=Key(7, 1), training=training, mode=mode, **kwargs)
        assert to_numpy(got).tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_outputs_equal_numpys_to_the_bit(dtype, path):
    n = 1_000_003 if path != "reference" else 30_011
    x = torch.randn(n, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = dropout(x, 0.1, True, key=Key(3))
    assert to_numpy(got).tobytes() == thinned.dropout(to_numpy(x), 0.1, key=Key(3), training=True).tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_kept(layout):
    x = layouts()[layout]
    assert dropout(x, 0.5, True, key=Key(0)).stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_three_ways_give_equal_bits(dtype):
    """The short eager way, the operator, and torch's own operators for devices without a kernel."""
    drop = threshold(0.3)
    for x in layouts(dtype).values():
        short = _eager.dropout(x, (5, 0, drop, thinned.scale(0.3), 0, None), False)
        operator = torch.ops.thinned.dropout(x, torch.tensor([5, 0]), torch.tensor(0.3, dtype=torch.float64))
        plain = _plain.dropout(x, (5, 0), drop, thinned.scale(0.3), 0, row_major(tuple(x.shape)))
        assert to_numpy(short).tobytes() == to_numpy(operator).tobytes() == to_numpy(plain).tobytes()
        assert short.stride() == operator.stride() == plain.stride()


@pytest.mark.parametrize("start", [0, 2**31 - 20, 2**35 - 20, 2**60])
def test_the_plain_way_reaches_every_position(start):
    expected = contract.keep(
        Key(2**64 - 1, 2**63), np.arange(40, dtype=np.uint64) + np.uint64(start), threshold(0.4)
    )
    got = _plain.keep_mask((40,), (2**64 - 1, 2**63), threshold(0.4), start, (1,), torch.device("cpu"))
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize(("position", "own"), NUMBERS.items())
def test_the_plain_way_keeps_a_position_at_its_own_number(position, own):
    for drop, kept in ((own, True), (own + 1, False)):
        got = _plain.keep_mask((1,), (5, 5), drop, position, (1,), torch.device("cpu"))
        assert got.item() == kept


def test_keep_mask_equals_numpys():
    for kwargs in ({}, {"global_shape": (2**40, 9), "start": (2**39, 2)}):
        got = keep_mask((50, 7), 0.2, key=Key(2**63, 2**64 - 1), **kwargs)
        expected = thinned.keep_mask((50, 7), 0.2, key=Key(2**63, 2**64 - 1), **kwargs)
        assert np.array_equal(got.numpy(), expected)


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_forward_and_backward_have_one_mask(layout, dtype, keyed):
    """Ones in: the zeros of y are the zeros of x.grad, to the bit."""
    x = torch.ones_like(layouts(dtype)[layout]).requires_grad_()
    y = dropout(x, 0.4, True, key=Key(1) if keyed else None)
    y.backward(torch.ones_like(y))
    assert (y == 0).any()
    assert to_numpy(y).tobytes() == to_numpy(x.grad).tobytes()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(("preserve", "keyed"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_under_activation_checkpointing(layout, preserve, keyed, reentrant):
    x = torch.ones_like(layouts()[layout]).requires_grad_()
    weight = torch.full((), 3.0, requires_grad=True)
    seen = []

    def block(v):
        y = dropout(v * weight, 0.4, True, key=Key(2) if keyed else None)
        seen.append(y.detach().clone())
        return y * weight  # saves y, so that the recomputation reaches it

    y = checkpoint(block, x, use_reentrant=reentrant, preserve_rng_state=preserve)
    y.backward(torch.ones_like(y))
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(y == 0, x.grad == 0)


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("noise", [None, (1, None)])
@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)  # torch's own forward AD
def test_gradcheck(mode, noise, operator, monkeypatch):
    if operator:
        monkeypatch.setattr(_eager, "applies", lambda input: False)
    x = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)

    def f(v):
        return dropout(v, 0.4, True, key=Key(3), noise_shape=noise, mode=mode)

    assert torch.autograd.gradcheck(f, x, check_forward_ad=not operator)
    assert torch.autograd.gradgradcheck(f, x)


def test_gradcheck_in_place_and_in_evaluation():
    x = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: dropout(v.clone(), 0.4, True, True, key=Key(3)), x)
    assert torch.autograd.gradcheck(lambda v: dropout(v, 0.4, False, mode="classic"), x)
    assert torch.autograd.gradcheck(lambda v: dropout(v, 1.0, True), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0])
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropped_places_are_zero_both_ways(value, p):
    x = torch.full((300,), value, requires_grad=True)
    y = dropout(x, p, True, key=Key(1))
    y.backward(torch.full_like(y, value))
    dropped = ~keep_mask(300, p, key=Key(1))
    for tensor in (y.detach(), x.grad):
        assert not tensor[dropped].view(torch.int32).any()
    assert dropped.any()


def saved_bytes(n):
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    x = torch.ones(n, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        dropout(x, 0.5, True)
        torch.ops.thinned.dropout(x, torch.tensor([1, 2]), torch.tensor(0.5, dtype=torch.float64))
    return total


def test_what_is_saved_for_backward_does_not_grow_with_the_input():
    assert saved_bytes(10) == saved_bytes(100_000) == 24


@pytest.mark.parametrize("make", [lambda: torch.ones(2, requires_grad=True), lambda: torch.ones(2)])
def test_nothing_of_the_input_is_kept_alive(make):
    import weakref

    x = make().clone()
    alive = weakref.ref(x)
    y = dropout(x, 0.5, True, key=Key(0))
    del x
    assert alive() is None
    assert y.shape == (2,)


def test_a_thousand_drawn_keys_give_a_thousand_masks():
    torch.manual_seed(0)
    x = torch.ones(256)
    assert len({dropout(x, 0.5, True).numpy().tobytes() for _ in range(1000)}) == 1000


def test_both_ways_draw_the_same_key(monkeypatch):
    x = torch.ones(500)
    torch.manual_seed(1)
    short = [dropout(x, 0.5, True) for _ in range(3)]
    monkeypatch.setattr(_eager, "applies", lambda input: False)
    torch.manual_seed(1)
    assert all(torch.equal(y, dropout(x, 0.5, True)) for y in short)


def test_threads_follow_torch_and_change_nothing():
    x = torch.randn(200_000)
    before = torch.get_num_threads()
    seen = set()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            seen.add(dropout(x, 0.3, True, key=Key(1)).numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where another test has loaded it
@pytest.mark.parametrize("n", [1, 2])
def test_data_loader_workers(n):
    """Forked workers draw after the parent has used the kernel on many threads."""
    dropout(torch.ones(1_000_000), 0.5, True)
    loader = torch.utils.data.DataLoader(_Masked(), num_workers=n, batch_size=4)
    got = torch.cat(list(loader))
    expected = torch.stack([_Masked()[i] for i in range(20)])
    assert torch.equal(got, expected)


class _Masked(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return dropout(torch.ones(50_000), 0.5, True, key=Key(1).fold(index))
