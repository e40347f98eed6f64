"""MultiheadAttention: torch's in evaluation, the mask of a key in training, and torch's models made of it."""

import warnings

import numpy as np
import pytest
import torch

import thinned
from thinned import Key
from thinned.torch import convert, keyed, keys, nn, set_rows, set_step, strip, unconvert
from thinned.torch.schedules import Late

pytestmark = [
    pytest.mark.usefixtures("one_thread"),  # these matrices are too small for two
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

WIDTH, HEADS, N, L, S = 8, 2, 3, 4, 5
VARIANTS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "without bias": {"bias": False},
    "learned key and value": {"add_bias_kv": True},
    "key of zeros": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "other widths": {"kdim": 6, "vdim": 3},
    "other widths, both": {"kdim": 6, "vdim": 3, "add_bias_kv": True, "add_zero_attn": True, "bias": False},
}
CAUSAL = torch.ones(L, S, dtype=torch.bool).triu(1)
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
MASKS = {
    "none": {},
    "causal": {"attn_mask": CAUSAL},
    "causal, told": {"attn_mask": CAUSAL, "is_causal": True},
    "additive": {"attn_mask": torch.randn(L, S, generator=torch.Generator().manual_seed(1))},
    "of heads": {
        "attn_mask": (torch.rand(N * HEADS, L, S, generator=torch.Generator().manual_seed(2)) < 0.3)
        & (torch.arange(S) != 0)
    },
    "padding": {"key_padding_mask": PADDED},
    "causal and padding": {"attn_mask": CAUSAL, "key_padding_mask": PADDED, "is_causal": True},
    "additive padding": {"key_padding_mask": torch.where(PADDED, -torch.inf, 0.5)},
}


def pair(variant, p=0.4):
    """torch's layer and ours, with one state."""
    options = VARIANTS[variant]
    torch.manual_seed(3)
    torchs = torch.nn.MultiheadAttention(WIDTH, HEADS, p, **options)
    if torchs.in_proj_bias is not None:
        torch.nn.init.normal_(torchs.in_proj_bias)
    ours = nn.MultiheadAttention(WIDTH, HEADS, p, **options)
    ours.load_state_dict(torchs.state_dict())
    return torchs, ours


def inputs(variant, batched=True):
    options, generator = VARIANTS[variant], torch.Generator().manual_seed(4)
    shapes = [(L, WIDTH), (S, options.get("kdim", WIDTH)), (S, options.get("vdim", WIDTH))]
    if not batched:
        return [torch.randn(*shape, generator=generator) for shape in shapes]
    made = [torch.randn(N, *shape, generator=generator) for shape in shapes]
    return made if options.get("batch_first") else [x.transpose(0, 1) for x in made]


def gradients(result, module, *inputs):
    weight = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
    return torch.autograd.grad((result * weight).sum(), [*inputs, *module.parameters()])


def close(one, other):
    torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.covering
def test_it_trains_as_torchs_whose_draws_are_keyed(variant, mask, need_weights):
    """By `keys` torch's own function runs, with its two calls that drop exchanged: another code, one mask."""
    torchs, ours = pair(variant)
    x = [each.requires_grad_() for each in inputs(variant)]
    options = {"need_weights": need_weights, "average_attn_weights": False, **MASKS[mask]}
    with keys(torchs, 7, step=2), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mismatched types of masks, which torch means to refuse
        expected, weights = torchs(*x, **options)
    got, of_ours = set_step(keyed(ours, 7), 2)(*x, **options)
    close(got, expected)
    close(of_ours, weights)
    for one, other in zip(gradients(got, ours, *x), gradients(expected, torchs, *x), strict=True):
        close(one, other)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.covering
def test_nothing_dropped_is_torchs(variant, mask, need_weights):
    """Evaluation to the bit, by whatever path torch takes; training at p = 0 to rounding."""
    torchs, ours = pair(variant, 0.0)
    x = inputs(variant)
    options = {"need_weights": need_weights, **MASKS[mask]}
    for left, right in zip(ours(*x, **options), torchs(*x, **options), strict=True):
        close(left, right)
    for left, right in zip(ours.eval()(*x, **options), torchs.eval()(*x, **options), strict=True):
        assert (left is right is None) or torch.equal(left, right)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("variant", ["plain", "batch first", "both"])
def test_the_weights_are_dropped_by_the_mask_of_their_shape(variant, average):
    """As torch's are: of shape (N, heads, L, S), whatever comes first, with what is appended counted."""
    _, ours = pair(variant)
    x = inputs(variant)
    extra = 2 if variant == "both" else 0
    _, weights = keyed(ours, 7)(*x, average_attn_weights=average)
    kept = thinned.keep_mask((N, HEADS, L, S + extra), 0.4, key=Key(7).fold("").fold(0))
    if average:
        assert np.array_equal((weights == 0).numpy(), ~kept.any(1))
    else:
        assert np.array_equal((weights != 0).numpy(), kept)


@pytest.mark.parametrize("variant", ["plain", "batch first", "both"])
def test_one_sequence_is_a_batch_of_one(variant):
    _, ours = pair(variant)
    keyed(ours, 7)
    q, k, v = inputs(variant, batched=False)
    dim = 0 if VARIANTS[variant].get("batch_first") else 1
    alone, weights = ours(q, k, v, PADDED[1], attn_mask=CAUSAL)
    batch, of_batch = ours(*(x.unsqueeze(dim) for x in (q, k, v)), PADDED[1:2], attn_mask=CAUSAL)
    assert torch.equal(alone, batch.squeeze(dim))
    assert torch.equal(weights, of_batch.squeeze(0))


def test_a_query_that_may_look_nowhere_gets_zeros_and_finite_gradients():
    _, ours = pair("batch first")
    x = [each.requires_grad_() for each in inputs("batch first")]
    mask = (torch.arange(L) == 2)[:, None].expand(L, S)
    with torch.no_grad():
        ours.out_proj.bias.zero_()
    for blocked in (mask, torch.where(mask, -torch.inf, 0.0)):
        for need_weights in (True, False):
            output, _ = ours(*x, attn_mask=blocked, need_weights=need_weights)
            assert (output[:, 2] == 0).all()
            assert all(g.isfinite().all() for g in gradients(output, ours, *x))


def test_rates_of_heads_and_schedules():
    layer = keyed(nn.MultiheadAttention(WIDTH, HEADS, torch.tensor([0.0, 1.0])[None, :, None, None]), 1)
    x = inputs("plain")
    _, weights = layer(*x, average_attn_weights=False)
    assert (weights[:, 0] > 0).all()
    assert (weights[:, 1] == 0).all()
    late = keyed(nn.MultiheadAttention(WIDTH, HEADS, Late(0.5, after=3)), 1)
    assert (set_step(late, 2)(*x)[1] > 0).all()
    assert (set_step(late, 3)(*x, average_attn_weights=False)[1] == 0).any()
    assert (late.eval()(*x)[1] > 0).all()


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\], got 1\.5"):
        nn.MultiheadAttention(WIDTH, HEADS, 1.5)
    with pytest.raises(TypeError, match="dropout must be a real number, got 'half'"):
        nn.MultiheadAttention(WIDTH, HEADS, "half")
    layer = nn.MultiheadAttention(WIDTH, HEADS, 0.1)
    x = torch.ones(L, N, WIDTH)
    for given, error, words in (
        ((x, x[0], x), ValueError, "query, key and value must all have 3 dimensions, or 2"),
        ((x, x[:2], x), ValueError, "key and value must have one length and batch"),
        ((x[None], x[None], x[None]), ValueError, "query, key and value must all have 3"),
        ((x, x, x, torch.ones(N, L)[:1] > 0), ValueError, r"key_padding_mask of shape \(1, 4\) does not fit"),
        ((x, x, x, torch.ones(N, L).long()), TypeError, "key_padding_mask must be bool or floating"),
    ):
        with pytest.raises(error, match=words):
            layer(*given)
    with pytest.raises(ValueError, match=r"attn_mask of shape \(3, 4\) does not fit"):
        layer(x, x, x, attn_mask=torch.ones(3, 4) > 0)
    with pytest.raises(ValueError, match="pass attn_mask too"):
        layer(x, x, x, is_causal=True)
    nested = torch.nested.nested_tensor([torch.ones(2, WIDTH), torch.ones(3, WIDTH)])
    with pytest.raises(TypeError, match=r"query is nested, which .* evaluation alone.*to_padded_tensor"):
        layer(nested, nested, nested)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_types(dtype):
    _, ours = pair("both")
    x = inputs("both")
    expected, _ = keyed(ours, 7)(*x, need_weights=False)
    got, weights = ours.to(dtype)(*(each.to(dtype) for each in x), average_attn_weights=False)
    assert got.dtype == weights.dtype == dtype
    torch.testing.assert_close(got.float(), expected, rtol=3e-2, atol=3e-2)
    kept = thinned.keep_mask((N, HEADS, L, S + 2), 0.4, key=Key(7).fold("").fold(0))
    assert np.array_equal((weights != 0).numpy(), kept)


def test_autocast():
    _, ours = pair("both")
    x = inputs("both")
    expected, weights = keyed(ours, 7)(*x, average_attn_weights=False)
    with torch.autocast("cpu", torch.bfloat16):
        got, low = ours(*x, average_attn_weights=False)
        fused, _ = ours(*x, need_weights=False, attn_mask=torch.zeros(L, S))
    assert got.dtype == fused.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=5e-2, atol=5e-2)
    torch.testing.assert_close(fused.float(), expected, rtol=5e-2, atol=5e-2)
    assert torch.equal(low == 0, weights == 0)


def test_rows_of_a_batch_have_the_masks_of_the_whole():
    _, ours = pair("plain")
    keyed(ours, 7)
    x = inputs("plain")
    whole, _ = ours(*x)
    part, _ = set_rows(ours, range(1, 3), total=N)(*(each[:, 1:] for each in x))
    close(part, whole[:, 1:])


class Own(torch.nn.MultiheadAttention):
    """With a forward of its own."""

    def forward(self, x):
        return super().forward(x, x, x)[0]


class Named(torch.nn.MultiheadAttention):
    """With another name and nothing else."""


def test_a_subclass_with_a_forward_of_its_own_is_left():
    model = torch.nn.ModuleDict({"own": Own(WIDTH, HEADS, 0.1), "named": Named(WIDTH, HEADS, 0.1)})
    report = convert(model)
    assert list(report.swapped) == ["named"]
    assert report.left["own"].startswith("Own is a torch.nn.MultiheadAttention with its own forward")
    with pytest.warns(UserWarning, match="^own draw from torch's generator"):
        keyed(model, 1)


def test_a_rate_that_is_wrong_is_left():
    model = torch.nn.MultiheadAttention(WIDTH, HEADS)
    model.dropout = 1.5
    assert convert(model).left["(the model)"].startswith("dropout must be in [0, 1], got 1.5: set it")


def test_back_to_torchs_unless_torch_cannot_say_it():
    model = convert(torch.nn.MultiheadAttention(WIDTH, HEADS, 0.1)).model
    before = set(vars(torch.nn.MultiheadAttention(WIDTH, HEADS, 0.1)))
    keyed(model, 1)
    assert "it has a key" in unconvert(model).left["(the model)"]
    assert list(unconvert(keyed(model, None)).swapped) == ["(the model)"]
    assert type(model) is torch.nn.MultiheadAttention
    assert set(vars(model)) == before
    late = nn.MultiheadAttention(WIDTH, HEADS, Late(0.5, after=3))
    assert "is no number" in unconvert(late).left["(the model)"]
    stripped = strip(keyed(nn.MultiheadAttention(WIDTH, HEADS, 0.1), 1)).model
    assert type(stripped) is torch.nn.MultiheadAttention
    assert set(vars(stripped)) == before
    assert stripped.dropout == 0.0
