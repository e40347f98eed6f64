"""FlexAttention with dropout: torch's where nothing drops, the mask of a key where something does."""

import numpy as np
import pytest
import torch
from torch.nn.attention import flex_attention as torchs

import thinned
from thinned import Key, mc
from thinned.torch import _flex, keys
from thinned.torch.flex import flex_attention as attend

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")

B, H, L, S, E = 2, 4, 5, 7, 8
WHOLE = (None, None, None)


def inputs(heads=H, dtype=torch.float32, size=6):
    generator = torch.Generator().manual_seed(1)
    shapes = ((B, H, L, E), (B, heads, S, E), (B, heads, S, size))
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def bias(score, b, h, q_idx, kv_idx):
    return score * (1 + 0.1 * h) + 0.1 * (q_idx - kv_idx)


def soft(score, b, h, q_idx, kv_idx):
    return 2.0 * torch.tanh(score / 2.0)


def window(b, h, q_idx, kv_idx):
    return (q_idx + 2 >= kv_idx) & (q_idx != 3)  # query 3 looks nowhere


def block(heads=None):
    return torchs.create_block_mask(window, None, heads, L, S, device="cpu")


def plain(query, key, value, score_mod=None, mask=None, scale=None, p=0.0, mask_key=None):
    """The formula, in double, with the mask of the reference."""
    query, key, value = query.double(), key.double(), value.double()
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = query @ key.mT * (E**-0.5 if scale is None else scale)
    at = torch.meshgrid(*(torch.arange(n) for n in scores.shape), indexing="ij")
    if score_mod is not None:
        scores = score_mod(scores, *at)
    if mask is not None:
        scores = scores.masked_fill(~mask(*at), -torch.inf)
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)
    if mask_key is not None:
        kept = torch.from_numpy(thinned.keep_mask(tuple(weights.shape), p, key=mask_key))
        weights = torch.where(kept, weights * thinned.scale(p), 0.0)
    return weights @ value


def two_passes(query, key, value, score_mod, block_mask, p, mask_key, scale=None, where=WHOLE):
    """As on a GPU: torch lets its kernel run on a CPU too, where nothing needs a gradient."""
    bits = thinned.torch._key.as_tensor(mask_key)
    rate = torch.tensor(p, dtype=torch.float64)
    call = (query, key, value, score_mod, block_mask, (scale, key.shape[1] != query.shape[1]), None)
    return _flex.two_passes(*call, bits, rate, where, (True, False, False))


CASES = {
    "alone": (None, None, H, None),
    "score_mod": (bias, None, H, None),
    "block_mask": (None, window, H, 0.7),
    "both, and few heads": (bias, window, 2, None),
    "not linear": (soft, window, 1, None),
}


@pytest.fixture
def backward_on_a_cpu(monkeypatch):
    """torch's reference of its kernel has a gradient, which it refuses to give on a CPU."""
    monkeypatch.setattr(torchs, "_validate_device", lambda *_: None)


both_ways = pytest.mark.parametrize(
    # torch traces its kernel anew in each call, which takes half a second and more.
    "way",
    ["dense", pytest.param("two passes", marks=pytest.mark.full)],
)


@pytest.mark.parametrize("case", CASES)
@both_ways
def test_outputs_and_gradients_equal_the_plain_reference(way, case, backward_on_a_cpu):
    score_mod, mask, heads, scale = CASES[case]
    x = [each.requires_grad_() for each in inputs(heads)]
    block_mask = None if mask is None else block()
    if way == "dense":
        options = {"scale": scale, "enable_gqa": True, "dropout_p": 0.3, "training": True}
        got = attend(*x, score_mod, block_mask, dropout_key=Key(5), **options)
    else:
        got, *_ = two_passes(*x, score_mod, block_mask, 0.3, Key(5), scale)
    expected = plain(*x, score_mod, mask, scale, 0.3, Key(5))
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.linspace(-1, 1, got.numel()).reshape(got.shape)
    grads = torch.autograd.grad(got, x, upstream)
    for one, other in zip(grads, torch.autograd.grad(expected, x, upstream.double()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["dense", "two passes"])
def test_identity_for_v_gives_the_reference_mask(way):
    q, k = torch.zeros(B, H, L, E), torch.zeros(B, 2, S, E)
    v = torch.eye(S).expand(B, 2, S, S).contiguous()
    rates = ((0.1, Key(1)), (0.5, Key(2**63 + 11, 2**40 + 3)), (1.0, Key(0)), (2**-33, Key(4)))
    for p, key in rates if way == "dense" else rates[1:2]:
        if way == "dense":
            got = attend(q, k, v, enable_gqa=True, dropout_p=p, training=True, dropout_key=key)
        else:
            got, *_ = two_passes(q, k, v, None, None, p, key)
        kept = thinned.keep_mask((B, H, L, S), p, key=key)
        assert np.array_equal((got != 0).numpy(), kept)
        assert torch.isfinite(got).all()
        scale = thinned.scale(p) if p < 1 else 0.0
        torch.testing.assert_close(got, torch.from_numpy(kept) * torch.tensor(scale / S).float())


@both_ways
def test_a_part_has_the_mask_of_the_whole(way):
    key, whole, start, step = Key(3), (4, 8, 2**20, 2**20), (1, 1, 2**19 + 1, 7), (1, 2, 1, 3)
    q, k = torch.zeros(B, H, L, E), torch.zeros(B, H, S, E)
    v = torch.eye(S).expand(B, H, S, S).contiguous()
    place = {"global_shape": whole, "start": start, "step": step}
    if way == "dense":
        got = attend(q, k, v, dropout_p=0.5, training=True, dropout_key=key, **place)
    else:
        got, *_ = two_passes(q, k, v, None, None, 0.5, key, where=(whole, start, step))
    ones = torch.ones(B, H, L, S)
    expected = thinned.torch.functional.dropout(ones, 0.5, training=True, key=key, **place)
    assert torch.equal(got != 0, expected != 0)


@both_ways
def test_a_query_whose_keys_are_all_dropped_gets_zeros_and_finite_gradients(way, backward_on_a_cpu):
    x = [each.requires_grad_() for each in inputs()]
    for p in (0.97, 1.0):
        if way == "dense":
            got = attend(*x, None, block(), dropout_p=p, training=True, dropout_key=Key(1))
        else:
            got, *_ = two_passes(*x, None, block(), p, Key(1))
        kept = torch.from_numpy(thinned.keep_mask((B, H, L, S), p, key=Key(1)))
        at = torch.meshgrid(*(torch.arange(n) for n in kept.shape), indexing="ij")
        empty = ~(kept & window(*at)).any(-1)
        assert empty.any()
        assert torch.equal((got == 0).all(-1), empty)
        assert all(g.isfinite().all() for g in torch.autograd.grad(got.sum(), x))


@pytest.mark.parametrize(
    "case", ["both, and few heads", *(pytest.param(c, marks=pytest.mark.full) for c in CASES)]
)
def test_where_nothing_drops_it_is_torchs(case):
    score_mod, mask, heads, scale = CASES[case]
    x = inputs(heads)
    call = (*x, score_mod, None if mask is None else block(), scale, True)
    expected = torchs.flex_attention(*call)
    assert torch.equal(attend(*call, dropout_p=0.5, training=False), expected)
    assert torch.equal(attend(*call, dropout_p=0.0, training=True), expected)
    for each in x:  # what torch refuses on a CPU
        each.requires_grad_()
    got = attend(*call, dropout_p=0.5, training=False)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.autograd.grad(got.sum(), x)


def test_the_logsumexp_is_that_of_all_scores():
    x = inputs()
    request = getattr(torchs, "AuxRequest", None)
    if request is None:
        pytest.skip("this torch has no AuxRequest")
    _, expected = torchs.flex_attention(*x, bias, block(), return_aux=request(lse=True))
    given = {"dropout_p": 0.4, "training": True, "dropout_key": Key(1)}
    output, lse = attend(*x, bias, block(), return_lse=True, **given)
    torch.testing.assert_close(lse, expected.lse)
    again, aux = attend(*x, bias, block(), return_aux=request(lse=True, max_scores=True), **given)
    assert torch.equal(again, output)
    assert torch.equal(aux.lse, lse)
    assert (aux.max_scores[:, :, 3] == -torch.inf).all()
    with pytest.raises(ValueError, match="pass return_lse or return_aux, not both"):
        attend(*x, return_lse=True, return_aux=request(lse=True), **given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_types(dtype):
    x = inputs(dtype=dtype)
    expected = plain(*x, bias, None, None, 0.3, Key(5))
    got = attend(*x, bias, dropout_p=0.3, training=True, dropout_key=Key(5))
    assert got.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def test_arguments_are_checked():
    q, k, v = inputs()
    with pytest.raises(TypeError, match="training is missing"):
        attend(q, k, v, dropout_p=0.1)
    with pytest.raises(ValueError, match=r"dropout_p must be in \[0, 1\], got 1\.5"):
        attend(q, k, v, dropout_p=1.5, training=False)
    with pytest.raises(ValueError, match=r"dropout_p must be one number or a tensor of no dimension, got sh"):
        attend(q, k, v, dropout_p=torch.full((H, 1, 1), 0.5), training=True)
    with pytest.raises(ValueError, match="query, key and value must have 4 dimensions"):
        attend(q[0], k, v, dropout_p=0.1, training=True)
    with pytest.raises(ValueError, match="Hkv=2 heads of key do not divide the Hq=4 of query"):
        attend(q, k[:, :2], v[:, :2], dropout_p=0.1, training=True)
    with pytest.raises(TypeError, match="input must be float32"):
        attend(q.int(), k, v, dropout_p=0.1, training=True)
    with pytest.raises(TypeError, match="pass dropout_key or generator, not both"):
        attend(q, k, v, dropout_p=0.1, training=True, dropout_key=Key(1), generator=torch.Generator())


def test_without_a_key_one_is_drawn():
    x = inputs()
    torch.manual_seed(3)
    one, two = (attend(*x, dropout_p=torch.tensor(0.5), training=True) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(attend(*x, dropout_p=0.5, training=True), one)
    assert not torch.equal(one, two)


class Model(torch.nn.Module):
    def forward(self, q, k, v):
        return attend(q, k, v, bias, dropout_p=0.5, training=self.training)


def test_keys_and_monte_carlo_reach_it():
    model, x = Model(), inputs()
    with keys(model, 7, step=3):
        got = model(*x)
    expected = attend(*x, bias, dropout_p=0.5, training=True, dropout_key=Key(7).fold("").fold(3))
    assert torch.equal(got, expected)
    with torch.no_grad(), mc.active(model.eval(), key=Key(1)):
        assert not torch.equal(model(*x), model(*x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.full  # compiles; the rule for traced code is held by tests/seams
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_has_the_masks_of_eager_code(backend):
    x = [each.requires_grad_() for each in inputs(2)]
    block_mask = block()

    def run(q, k, v, key):
        return attend(
            q, k, v, bias, block_mask, enable_gqa=True, dropout_p=0.5, training=True, dropout_key=key
        )

    compiled = torch.compile(run, backend=backend, fullgraph=True)
    for seed in (1, 2):
        key = thinned.torch._key.as_tensor(Key(seed))
        expected, got = run(*x, key), compiled(*x, key)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        for one, other in zip(
            torch.autograd.grad(got.sum(), x), torch.autograd.grad(expected.sum(), x), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
