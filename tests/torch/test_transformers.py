"""Models of transformers whose attention is ours: built from small configurations, with random weights."""

import copy
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
import torch

import thinned
from thinned import Key, mc
from thinned.torch import convert, keyed, keys, nn, set_rows, set_step, strip, unconvert
from thinned.torch._conversion import _attention_functions

installed = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed: pip install '.[check,transformers]'",
)


# In the manner of transformers, which looks the function up by the configuration's name in each call.
STAND_IN = """
import torch

class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = Config()
        self.qkv = torch.nn.Linear(8, 24)
        self.attention_dropout = 0.5

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        p = self.attention_dropout if self.training else 0.0
        return attend(self, q, k, v, None, dropout=p)[0].flatten(2)
"""


def attends(module, query, key, value, mask, dropout):
    """As `thinned.torch.transformers.attention`, which needs transformers."""
    if not module.training:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None
    site = _attention_functions.site_of(module) or _attention_functions.HandedAttention()
    return site(query, key, value, mask, dropout, False, None, False).transpose(1, 2), None


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "stand_in_for_transformers.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("stand_in_for_transformers")
    module.Config = lambda: types.SimpleNamespace(_attn_implementation="thinned")
    module.ALL_ATTENTION_FUNCTIONS = {"thinned": attends, "sdpa": attends}
    torch.manual_seed(1)
    yield module.Attention
    del sys.modules[module.__name__]


def test_an_attention_that_is_handed_over_gets_a_site(stand_in):
    model, x = torch.nn.Sequential(stand_in()), torch.randn(2, 5, 8)
    state = list(model.state_dict())
    report = convert(model)
    assert list(report.swapped) == ["0.thinned_attention"]
    assert report.left == report.possible == {}
    assert list(model.state_dict()) == state
    keyed(model, 3, check=x)
    with torch.no_grad():
        first, other = model(x), set_step(model, 1)(x)
        assert torch.equal(set_step(model, 0)(x), first)
        assert not torch.equal(first, other)
        rows = set_rows(model, range(1, 2), total=2)(x[1:])
        torch.testing.assert_close(rows, first[1:])
    set_rows(model, None)
    assert list(convert(model).swapped) == ["0.thinned_attention"], "the site that it has is kept"
    assert model[0].thinned_attention.key == Key(3).fold("0.thinned_attention")
    assert "it has a key" in unconvert(model).left["0.thinned_attention"]
    assert list(unconvert(keyed(model, None)).swapped) == ["0.thinned_attention"]
    assert not any(isinstance(module, _attention_functions.HandedAttention) for module in model.modules())


def test_an_attention_by_another_name_is_told_how_to_be_ours(stand_in):
    model = torch.nn.Sequential(stand_in())
    model[0].config._attn_implementation = "sdpa"
    suspect = convert(model).possible["0"]
    assert "holds attention_dropout=0.5 as a number" in suspect
    assert 'set_attn_implementation("thinned") and convert again' in suspect


def test_a_handed_attention_drops_in_monte_carlo_and_is_stripped(stand_in):
    model, x = convert(torch.nn.Sequential(stand_in())).model.eval(), torch.randn(2, 5, 8)
    with torch.no_grad(), mc.active(model, key=Key(1)) as run:
        assert not torch.equal(model(x), model(x))
        assert [site.name for site in run.sites] == ["0.thinned_attention"]
    expected = model(x)
    assert list(strip(model).removed) == ["0.thinned_attention"]
    assert torch.equal(model(x), expected)


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}


def gpt2(tf, name):
    config = tf.GPT2Config(
        vocab_size=40,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=1,
        attn_implementation=name,
    )
    return tf.GPT2LMHeadModel(config)


def bert(tf, name):
    return tf.BertModel(tf.BertConfig(vocab_size=40, **SMALL, attn_implementation=name))


def llama(tf, name):
    config = tf.LlamaConfig(
        vocab_size=40,
        **SMALL,
        num_key_value_heads=2,
        attention_dropout=0.3,
        attn_implementation=name,
        pad_token_id=0,
    )
    return tf.LlamaForCausalLM(config)


def vit(tf, name):
    options = {"image_size": 8, "patch_size": 4, "hidden_dropout_prob": 0.1}
    config = tf.ViTConfig(**SMALL, **options, attention_probs_dropout_prob=0.2, attn_implementation=name)
    return tf.ViTModel(config)


def whisper(tf, name):
    config = tf.WhisperConfig(
        vocab_size=40,
        num_mel_bins=4,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=8,
        max_target_positions=16,
        dropout=0.1,
        attention_dropout=0.2,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=2,
        attn_implementation=name,
    )
    return tf.WhisperForConditionalGeneration(config)


WORDS = torch.arange(2, 14).reshape(2, 6)
PADDED = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
TEXT = {"input_ids": WORDS, "attention_mask": PADDED}
MODELS = {
    "gpt2": (gpt2, TEXT),
    "bert": (bert, TEXT),
    "llama": (llama, TEXT),
    "vit": (vit, {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}),
    "whisper": (
        whisper,
        {
            "input_features": torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(2)),
            "decoder_input_ids": WORDS,
        },
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def tf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        import transformers

        import thinned.torch.transformers  # noqa: F401
    return transformers


def build(tf, name, implementation="thinned"):
    make, inputs = MODELS[name]
    torch.manual_seed(5)
    return make(tf, implementation), inputs


def run(model, inputs):
    output = model(**inputs)
    return output.logits if "logits" in output else output.last_hidden_state


@installed
@every_model
def test_evaluation_is_sdpas(tf, name):
    (model, inputs), (other, _) = build(tf, name), build(tf, name, "sdpa")
    with torch.no_grad():
        expected = run(other.eval(), inputs)
        assert torch.equal(run(model.eval(), inputs), expected)
        assert torch.equal(run(convert(model).model, inputs), expected)
        assert torch.equal(run(strip(model).model.train(), inputs), run(strip(other).model, inputs)) or (
            name in ("llama", "vit", "whisper")  # which hold their rates as numbers
        )


@installed
@pytest.mark.parametrize("name", ["gpt2", "llama", "whisper"])
def test_generation_is_sdpas(tf, name):
    (model, inputs), (other, _) = build(tf, name), build(tf, name, "sdpa")
    keyed(convert(model).model, 1)
    inputs = {key: value for key, value in inputs.items() if not key.startswith("decoder")}
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    one, two = (each.eval().generate(**inputs, **options) for each in (model, other))
    assert torch.equal(one, two)
    assert one.shape[1] > 1


@installed
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "vit"])
def test_a_converted_model_is_keyed_completely(tf, name):
    model, inputs = build(tf, name)
    report = convert(model)
    assert report.left == report.possible == {}
    # A layer of ViT calls one module twice.
    calls = "count" if name == "vit" else None
    keyed(model.train(), 7, check=inputs, calls=calls)
    with torch.no_grad():
        first, other = run(model, inputs), run(set_step(model, 1), inputs)
        assert torch.equal(run(set_step(model, 0), inputs), first)
        assert not torch.equal(first, other)
    resumed = convert(build(tf, name)[0]).model.train()
    assert torch.equal(run(set_step(keyed(resumed, 7, calls=calls), 1), inputs), other)
    copied = set_step(copy.deepcopy(model), 1)
    assert torch.equal(run(copied, inputs), other)


@installed
@every_model
def test_a_model_is_keyed_from_outside_as_with_eager_attention(tf, name):
    """By `keys` a module's function and ours draw by one name: outputs are equal to rounding."""
    (model, inputs), (eager, _) = build(tf, name), build(tf, name, "eager")
    results = []
    for each in (model, eager):
        with keys(each.train(), 7, step=3) as draws, torch.no_grad():
            results.append(run(each, inputs))
            again = run(each, inputs)
            draws.step = 4
            other = run(each, inputs)
        assert torch.equal(again, results[-1])
        assert not torch.equal(other, again)
        assert not draws.unkeyed
    if "attention_mask" in inputs:  # elsewhere eager attention looks everywhere, and ours nowhere
        results = [result[PADDED == 1] for result in results]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@installed
def test_the_mask_is_of_the_shape_of_the_probabilities(tf):
    model, _ = build(tf, "llama")
    keyed(convert(model).model.train(), 7)
    layer = model.model.layers[1].self_attn
    identity = torch.eye(6).expand(2, 4, 6, 6)
    q = torch.zeros(2, 4, 6, 6)
    output, weights = thinned.torch.transformers.attention(
        layer, q, q[:, :2], identity[:, :2], None, dropout=0.3, is_causal=False
    )
    key = Key(7).fold("model.layers.1.self_attn.thinned_attention").fold(0)
    kept = thinned.keep_mask((2, 4, 6, 6), 0.3, key=key)
    assert weights is None
    assert np.array_equal((output.transpose(1, 2) != 0).numpy(), kept)


@installed
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "vit"])
def test_gradient_checkpointing_recomputes_equal_masks(tf, name):
    model, inputs = build(tf, name)
    keyed(convert(model).model.train(), 7, calls="count" if name == "vit" else None)

    def gradients():
        model.zero_grad()
        run(set_step(model, 2), inputs).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    with warnings.catch_warnings():
        # Names that transformers means to give up; and the mask of one step, which is drawn on purpose.
        warnings.simplefilter("ignore")
        plain = gradients()
        model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        again = gradients()
        model.gradient_checkpointing_enable({"use_reentrant": True, "preserve_rng_state": False})
        model.enable_input_require_grads()
        reentrant = gradients()
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(plain, reentrant, strict=True))


@installed
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "vit"])
def test_samples_of_a_model_spread_by_attention_alone(tf, name):
    model, inputs = build(tf, name)
    model = convert(model).model.eval()
    for path, module in model.named_modules():
        if type(module) is nn.Dropout and not path.endswith(("attn_dropout", "self.dropout")):
            module.p = 0.0
    with torch.no_grad(), mc.active(model, key=Key(1)) as draws:
        assert not torch.equal(run(model, inputs), run(model, inputs))
    assert sum(site.name.endswith("thinned_attention") for site in draws.sites) == 2


@installed
def test_what_changes_the_scores_is_refused(tf):
    model, _ = build(tf, "llama")
    q, layer = torch.ones(1, 4, 3, 4), model.model.layers[0].self_attn
    for name in ("softcap", "s_aux"):
        with pytest.raises(ValueError, match=rf"{name}=1\.0 changes the scores"):
            thinned.torch.transformers.attention(layer, q, q, q, None, **{name: 1.0})
