"""Attention: torch's where nothing drops; where something does, the mask that the key says."""

import math

import pytest
import torch
import torch.nn.functional as F

import thinned
from thinned import Key
from thinned.torch.functional import scaled_dot_product_attention as attend

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# With AMX probabilities and their gradients are rounded to bfloat16 too, 8 bits each, before products.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 4e-2}


def inputs(*batch, length=5, keys=7, size=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((*batch, length, size), (*batch, keys, size), (*batch, keys, 3))
    return tuple(torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes)


def plain(query, key, value, mask=None, p=0.0, causal=False, scale=None, *, mask_key=None):
    """torch's documented formula, in double, and torch's zeros for a query that may look nowhere."""
    scores = query.double() @ key.double().transpose(-2, -1)
    scores = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -torch.inf)
    if mask is not None:
        scores = scores + mask
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    if mask_key is not None:
        kept = torch.from_numpy(thinned.keep_mask(tuple(weights.shape), p, key=mask_key))
        weights = torch.where(kept, weights * thinned.scale(p), 0.0)
    return (weights @ value.double()).to(query.dtype)


BOOL = torch.rand(5, 7, generator=torch.Generator().manual_seed(2)) < 0.6
MASKS = {
    "none": None,
    "bool": BOOL,
    "bool of samples": torch.rand(2, 1, 1, 7, generator=torch.Generator().manual_seed(3)) < 0.5,
    "additive": torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(4)),
    "additive, infinite": torch.where(BOOL, 0.5, -torch.inf),
    "a row that looks nowhere": BOOL & (torch.arange(5) != 2)[:, None],
    "infinite row": torch.where((torch.arange(5) != 2)[:, None], BOOL.float(), -torch.inf),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("mask", "causal"), [("none", True), *((mask, False) for mask in MASKS)])
def test_outputs_and_gradients_equal_the_plain_reference(mask, dtype, causal):
    arguments = inputs(2, 3, dtype=dtype)
    more = (MASKS[mask], 0.3, causal, 0.7)
    got = attend(*arguments, *more, training=True, dropout_key=Key(5))
    expected = plain(*arguments, *more, mask_key=Key(5))
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(got, expected, **tolerance)
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(6)).to(dtype)
    grads = torch.autograd.grad(got, arguments, upstream)
    for one, other in zip(grads, torch.autograd.grad(expected, arguments, upstream), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("mask", MASKS)
def test_the_way_that_drops_is_torchs_where_p_is_next_to_nothing(mask, monkeypatch):
    """p of 1e-12 keeps all: what remains is torch's attention, rows that look nowhere included."""
    arguments = inputs(2, 3)
    p = torch.full((1, 1, 1, 1), 1e-12, dtype=torch.float64)
    got = attend(*arguments, MASKS[mask], p, training=True)
    expected = F.scaled_dot_product_attention(*arguments, MASKS[mask])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(got.sum(), arguments)
    for one, other in zip(grads, torch.autograd.grad(expected.sum(), arguments), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.isnan(got).any()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("training", [True, False])
def test_without_dropout_it_is_torchs(mask, training):
    arguments = inputs(2, 3)
    expected = F.scaled_dot_product_attention(*arguments, MASKS[mask], scale=0.3)
    p = 0.0 if training else 0.4
    assert torch.equal(attend(*arguments, MASKS[mask], p, scale=0.3, training=training), expected)


def test_the_mask_is_that_of_the_key():
    """Equal scores, and values that show each probability: dropped or 1/7 · s, position by position."""
    query, key = torch.zeros(2, 3, 5, 4), torch.zeros(2, 3, 7, 4)
    got = attend(query, key, torch.eye(7).expand(2, 3, 7, 7), None, 0.5, training=True, dropout_key=Key(8, 1))
    kept = torch.from_numpy(thinned.keep_mask((2, 3, 5, 7), 0.5, key=Key(8, 1)))
    assert torch.equal(got != 0, kept)
    assert torch.equal(got[kept].unique(), torch.full((7,), 1.0).softmax(0)[:1] * 2)


def test_forward_and_backward_have_one_mask():
    """The gradient of a value is the sum of its dropped probabilities; of a score, zero where dropped."""
    query, key = torch.zeros(2, 5, 4), torch.zeros(2, 7, 4)
    value = torch.eye(7).expand(2, 7, 7).clone().requires_grad_()
    y = attend(query, key, value, None, 0.5, training=True, dropout_key=Key(8))
    (grad,) = torch.autograd.grad(y, value, torch.ones(2, 5, 7))
    torch.testing.assert_close(grad, y.detach().sum(-2)[..., None].expand(2, 7, 7))


def test_the_mean_over_keys_is_attention_without_dropout():
    query, key, value = (t.detach().double() for t in inputs())
    n = 4000
    y = attend(
        query.expand(n, 5, 4), key.expand(n, 7, 4), value.expand(n, 7, 3), None, 0.3, training=True,
        dropout_key=Key(1),
    )  # fmt: skip
    expected = F.scaled_dot_product_attention(query, key, value)
    z = (y.mean(0) - expected) / (y.std(0) / n**0.5)
    assert bool((z.abs() < 5).all())


@pytest.mark.parametrize("training", [True, False])
def test_grouped_queries(training):
    query, _, _ = inputs(2, 6)
    _, key, value = inputs(2, 3, seed=1)
    got = attend(query, key, value, None, 0.3, False, None, True, training=training, dropout_key=Key(2))
    repeated = (key.repeat_interleave(2, 1), value.repeat_interleave(2, 1))
    expected = attend(query, *repeated, None, 0.3, training=training, dropout_key=Key(2))
    torch.testing.assert_close(got, expected)
    with pytest.raises((ValueError, RuntimeError), match=r"[Hh]eads (of key|in key)"):
        attend(query[:, :4], key, value, None, 0.3, False, None, True, training=training)


@pytest.mark.parametrize("shapes", [((5, 1), (1, 3), (1, 3)), ((1,), (1,), (4,)), ((), (), ())], ids=str)
def test_batches_broadcast(shapes):
    query, key, value = (inputs(*s)[i] for i, s in enumerate(shapes))
    batch = torch.broadcast_shapes(*shapes)
    whole = [t.expand(*batch, *t.shape[-2:]) for t in (query, key, value)]
    got = attend(query, key, value, None, 0.3, training=True, dropout_key=Key(2))
    expected = attend(*whole, None, 0.3, training=True, dropout_key=Key(2))
    torch.testing.assert_close(got, expected)
    for one, other in zip(
        torch.autograd.grad(got.sum(), (query, key, value)),
        torch.autograd.grad(expected.sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("length", "keys"), [(0, 7), (5, 0), (0, 0)])
def test_empty(length, keys):
    arguments = inputs(2, length=length, keys=keys)
    got = attend(*arguments, None, 0.3, training=True)
    assert torch.equal(got, F.scaled_dot_product_attention(*arguments))


def test_p_of_each_head():
    arguments = inputs(2, 3)
    p = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    got = attend(*arguments, None, p, training=True, dropout_key=Key(2))
    torch.testing.assert_close(got[:, 0], F.scaled_dot_product_attention(*arguments)[:, 0])
    whole = attend(*arguments, None, 0.4, training=True, dropout_key=Key(2))
    torch.testing.assert_close(got[:, 1], whole[:, 1])
    assert not got[:, 2].any()
    for training in (True, False):
        with pytest.raises(ValueError, match="does not fit input of shape"):
            attend(*arguments, None, torch.rand(4, 1, 1, 1), training=training)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
def test_gradcheck():
    arguments = inputs(1, length=3, keys=4, size=2, dtype=torch.float64)
    mask = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def f(*args):
        return attend(*args, 0.4, training=True, dropout_key=Key(3))

    assert torch.autograd.gradcheck(f, (*arguments, mask), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (*arguments, mask))


def test_what_is_saved():
    """Nothing of the probabilities' size: torch saves three."""

    def storages(run):
        saved = {}

        def pack(tensor):
            if tensor.numel() >= 2 * 50 * 60:
                saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run(*inputs(2, length=50, keys=60))
        return len(saved)

    assert storages(lambda *args: attend(*args, None, 0.3, training=True)) == 0
    assert storages(lambda *args: F.scaled_dot_product_attention(*args, None, 0.3)) > 1


def test_under_autocast():
    arguments = inputs(2)
    with torch.autocast("cpu"):
        y = attend(*arguments, None, 0.4, training=True, dropout_key=Key(1))
        assert y.dtype == attend(*arguments, training=False).dtype == torch.bfloat16
    y.float().sum().backward()
    expected = attend(*arguments, None, 0.4, training=True, dropout_key=Key(1))
    assert torch.equal(y, expected.bfloat16())


def test_p_one_is_zero():
    query, key, _ = inputs(2)
    value = torch.full((2, 7, 3), math.nan, requires_grad=True)
    learned = torch.full((5, 7), math.nan, requires_grad=True)
    y = attend(query, key, value, learned, 1.0, training=True)
    y.sum().backward()
    for tensor in (y.detach(), query.grad, value.grad, learned.grad):
        assert not tensor.nan_to_num(1.0).any()


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_a_p_for_each_head_of_query_where_key_has_fewer(heads):
    q, (k, v) = torch.randn(2, 6, 5, 4), torch.randn(2, 2, heads, 7, 4)
    p = torch.rand(1, 6, 1, 1)
    options = {"training": True, "dropout_key": Key(3)}
    got = attend(q, k, v, None, p, enable_gqa=True, **options)
    each = (one.repeat_interleave(6 // heads, 1) for one in (k, v))
    torch.testing.assert_close(got, attend(q, *each, None, p, **options))
    with pytest.raises(ValueError, match=r"p of shape \(1, 4, 1, 1\) does not fit"):
        attend(q, k, v, None, p[:, :4], enable_gqa=True, **options)


def test_forward_and_second_derivatives_within_torch_func():
    query, key, value = (each.detach() for each in inputs(1, length=2, keys=4, size=2, dtype=torch.float64))
    kept = torch.from_numpy(thinned.keep_mask((*query.shape[:-1], key.shape[-2]), 0.4, key=Key(3)))

    def ours(x):
        return attend(x, key, value, None, 0.4, training=True, dropout_key=Key(3)).square().sum()

    def plain(x):
        weights = (x @ key.mT / math.sqrt(x.shape[-1])).softmax(-1)
        return (torch.where(kept, weights * thinned.scale(0.4), 0.0) @ value).square().sum()

    for derivative in (
        lambda f: torch.func.jvp(f, (query,), (query,))[1],
        lambda f: torch.func.grad(lambda x: torch.func.jvp(f, (x,), (x,))[1])(query),
        lambda f: torch.func.hessian(f)(query),
        lambda f: torch.func.jacrev(torch.func.jacfwd(f))(query),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(f))(query),
    ):
        torch.testing.assert_close(derivative(ours), derivative(plain))


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_is_of_a_type_that_it_can_be_and_given_once(training):
    arguments = inputs(2)
    with pytest.raises(ValueError, match="pass attn_mask or is_causal=True, not both"):
        attend(*arguments, BOOL, 0.3, True, training=training)
    with pytest.raises(
        TypeError, match=r"attn_mask must be bool, float32 or query's torch.float32, got torch.int"
    ):
        attend(*arguments, BOOL.long(), 0.3, training=training)
