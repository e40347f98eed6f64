"""torch's models of attention, converted: names, keys, checkpoints, prediction, and copies."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from thinned import Key, mc
from thinned.torch import convert, count_steps, keyed, keys, nn, set_step
from thinned.torch._site import Site

pytestmark = [
    pytest.mark.usefixtures("one_thread"),  # these matrices are too small for two
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

WIDTH, HEADS, N, L, S = 8, 2, 3, 4, 5
WIDTH, HEADS, N, L, S = 8, 2, 3, 4, 5
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])


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
        torch.testing.assert_close(original(*x), other)


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
        torch.testing.assert_close(compiled(x), eager)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
