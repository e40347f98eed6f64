"""MultiheadAttention: torch's in evaluation, the mask of a key in training, and torch's models made of it."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import thinned
from thinned import Key, mc
from thinned.torch import convert, count_steps, keyed, keys, nn, set_rows, set_step, strip, unconvert
from thinned.torch._site import Site
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


def encoder(**options):
    torch.manual_seed(5)
    options = {"dropout": 0.2, "batch_first": True, **options}
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 12, **options)
    return torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def transformer(**options):
    torch.manual_seed(5)
    return torch.nn.Transformer(WIDTH, HEADS, 1, 1, 12, 0.2, **options)


def batch(shape=(N, L, WIDTH)):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


MODELS = {
    "encoder": (encoder, lambda: (batch(),)),
    "encoder, lengths first": (
        lambda: encoder(batch_first=False),
        lambda: (batch(), torch.nn.Transformer.generate_square_subsequent_mask(N)),
    ),
    "norm first": (
        lambda: encoder(norm_first=True),
        lambda: (batch(), None, torch.arange(L) >= torch.tensor([4, 2, 3])[:, None]),
    ),
    "transformer": (
        transformer,
        lambda: (
            *(batch((S, N, WIDTH)), batch()[:, :N].transpose(0, 1)),
            *(None, torch.nn.Transformer.generate_square_subsequent_mask(N), None),
            *(torch.where(PADDED, -torch.inf, 0.0), None, PADDED),
        ),
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_torchs_models_are_keyed_completely(name):
    """No warning is left; one step has one mask, and a run that is resumed at a step has its masks."""
    make, of = MODELS[name]
    model, original, x = make(), make(), of()
    report = convert(model)
    assert report.left == report.possible == {}
    keyed(model, 7, check=x)
    first, other = model(*x), set_step(model, 1)(*x)
    assert torch.equal(set_step(model, 0)(*x), first)
    assert not torch.equal(first, other)
    resumed = convert(make()).model
    assert torch.equal(set_step(keyed(resumed, 7), 1)(*x), other)
    assert torch.equal(model.eval()(*x), original.eval()(*x))
    with torch.no_grad():
        assert torch.equal(model(*x), original(*x))
    # From outside, by the same names.
    with keys(original.train(), 7, step=1):
        close(original(*x), other)


def test_every_attention_of_a_transformer_drops_by_its_own_name():
    model = keyed(convert(transformer()).model, 7)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    assert names == [
        "encoder.layers.0.self_attn",
        "decoder.layers.0.self_attn",
        "decoder.layers.0.multihead_attn",
    ]
    assert len({model.get_submodule(name).key for name in names}) == 3


def test_the_fused_paths_are_taken_in_evaluation_and_left_in_monte_carlo(monkeypatch):
    model, x = convert(encoder()).model.eval(), batch()
    alone = convert(torch.nn.MultiheadAttention(WIDTH, HEADS, 0.5, batch_first=True)).model.eval()
    called = []
    for name in ("_transformer_encoder_layer_fwd", "_native_multi_head_attention"):
        fused = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, name=name, fused=fused: called.append(name) or fused(*a))
    with torch.no_grad():
        model(x)
        alone(x, x, x)
    assert called == ["_transformer_encoder_layer_fwd"] * 2 + ["_native_multi_head_attention"]
    called.clear()
    with torch.no_grad(), mc.active(model, key=Key(1)) as run:
        one, two = model(x), model(x)
    assert not called
    assert not torch.equal(one, two)
    assert {site.name for site in run.sites} == {
        f"layers.{i}.{part}" for i in (0, 1) for part in ("self_attn", "dropout", "dropout1", "dropout2")
    }
    with torch.no_grad(), mc.active(alone, key=Key(1)):
        assert not torch.equal(alone(x, x, x)[0], alone(x, x, x)[0])
    assert not any(module.training for module in model.modules())


def test_monte_carlo_prediction_spreads_by_attention_alone():
    model = convert(encoder()).model.eval()
    for layer in model.layers:
        layer.dropout.p = layer.dropout1.p = layer.dropout2.p = 0.0
    prediction = mc.predict(model, batch(), samples=4, key=Key(1))
    assert float(np.asarray(prediction.std).min()) > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_encoder_has_the_same_gradients(reentrant):
    model, x = keyed(convert(encoder()).model, 7), batch().requires_grad_()

    def gradient(run):
        model.zero_grad()
        return torch.autograd.grad(run(x).square().sum(), [x, *model.parameters()], allow_unused=reentrant)

    def checkpointed(x):
        return checkpoint(model, x, use_reentrant=reentrant, preserve_rng_state=False)

    if reentrant:  # it refuses autograd.grad
        model(x).square().sum().backward()
        plain, x.grad = x.grad, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mask of one step is drawn twice
            checkpointed(x).square().sum().backward()
        assert torch.equal(x.grad, plain)
        return
    plain = gradient(model)
    set_step(model, 0)
    assert all(torch.equal(a, b) for a, b in zip(plain, gradient(checkpointed), strict=True))


def test_one_attention_in_two_layers():
    layers = [torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True) for _ in range(2)]
    layers[1].self_attn = layers[0].self_attn
    model = convert(torch.nn.Sequential(*layers)).model
    assert type(layers[1].self_attn) is nn.MultiheadAttention
    x = batch().requires_grad_()
    with pytest.warns(UserWarning, match=r"0\.self_attn has drawn the mask of step 0 again"):
        keyed(model, 1)(x)
    counted = keyed(convert(model).model, 1, calls="count")
    counted(x)


def test_copies_pickles_and_states():
    model, x = set_step(keyed(convert(encoder()).model, 7), 3), batch()
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    saved.seek(0)
    other = encoder()
    assert list(other.state_dict()) == list(model.state_dict())
    other.load_state_dict(torch.load(saved))
    assert torch.equal(set_step(keyed(convert(other).model, 7), 3)(x), expected)


def test_functional_call_and_per_sample_gradients():
    model, x = keyed(convert(encoder()).model, 7), batch()
    state = dict(model.named_parameters())
    with torch.no_grad():
        assert torch.equal(torch.func.functional_call(model, state, (x,)), model(x))

    def loss(state, one):
        return torch.func.functional_call(model, state, (one.unsqueeze(0),)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(state, x)
    alone = [torch.func.grad(loss)(state, one) for one in x]
    for name, value in each.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in alone]), rtol=1e-4, atol=1e-5)


def test_steps_are_counted_by_an_optimizer_in_a_training_run():
    model, x = keyed(convert(encoder()).model, 7), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    count_steps(model, optimizer)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert {int(m.step) for m in model.modules() if isinstance(m, Site)} == {2}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.full  # compiles; tests/seams run every layer through export, make_fx and torch.fx
def test_a_compiled_encoder_has_the_masks_of_eager_code():
    model, x = keyed(convert(encoder()).model, 7), batch()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for step in (0, 5):
        set_step(model, step)
        eager = model(x)
        set_step(model, step)
        close(compiled(x), eager)
    model.eval()
    with torch.no_grad():
        close(compiled(x), model(x))
