"""Tools of torch that know dropout by its class or its operator: quantisation, removal, ONNX, TorchScript."""

import io
import warnings

import pytest
import torch
from torch.ao import quantization as ao
from torch.ao.nn import quantized
from torch.ao.quantization import quantize_fx
from torch_sites import LAYERS

import thinned.torch
from thinned.torch import keyed, nn, strip, unconvert
from thinned.torch.quantization import dynamic_mapping, static_mapping

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*reduce_range.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*[Qq]uantiz.*"),
]

# In the place of a layer of width 6, for a batch of rows.
_ON_ROWS = (
    "AlphaDropout",
    "DropPath",
    "Dropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "StochasticDepth",
)
BETWEEN = {
    **{name: LAYERS[name].make for name in _ON_ROWS},
    "DropConnectLinear": lambda: nn.DropConnectLinear(6, 6),
}
every = pytest.mark.parametrize("make", BETWEEN.values(), ids=BETWEEN)


def rows():
    return torch.arange(48.0).reshape(8, 6) / 48


def network(layer):
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(6, 6), layer, torch.nn.ReLU(), torch.nn.Linear(6, 6))


@pytest.mark.parametrize("train", [True, False], ids=["prepared in training", "prepared in evaluation"])
@every
def test_quantisation_of_fx_graphs_follows_training(make, train):
    x = rows()
    if train:
        mapping = ao.get_default_qat_qconfig_mapping("x86")
        model = quantize_fx.prepare_qat_fx(network(make()).train(), mapping, (x,))
        first, second = model(x), model(x)
        assert not torch.equal(first, second)
    else:
        mapping = ao.get_default_qconfig_mapping("x86")
        model = quantize_fx.prepare_fx(network(make()).eval(), mapping, (x,))
        model(x)
    model.eval().apply(ao.disable_observer)
    assert torch.equal(model(x), model(x))
    assert not torch.equal(model.train()(x), model(x))
    done = quantize_fx.convert_fx(model.eval())
    assert torch.equal(done(x), done(x))


def wrapped(layer):
    return torch.nn.Sequential(
        ao.QuantStub(), torch.nn.Linear(6, 6), layer, torch.nn.Linear(6, 6), ao.DeQuantStub()
    )


@pytest.mark.parametrize("train", [True, False], ids=["prepare_qat", "prepare"])
def test_eager_quantisation_makes_torchs_quantised_dropout(train):
    model = wrapped(nn.Dropout(0.3)).train(train)
    model.qconfig = ao.get_default_qat_qconfig("x86") if train else ao.get_default_qconfig("x86")
    ready = (ao.prepare_qat if train else ao.prepare)(model)
    ready(rows())
    done = ao.convert(ready.eval(), static_mapping())
    assert type(done[2]) is quantized.Dropout
    assert done[2].p == 0.3
    assert torch.equal(done(rows()), done(rows()))


def test_eager_quantisation_of_a_classic_dropout_is_an_error():
    model = wrapped(nn.Dropout(0.3, mode="classic")).eval()
    model.qconfig = ao.get_default_qconfig("x86")
    ready = ao.prepare(model)
    ready(rows())
    with pytest.raises(ValueError, match=r"classic Dropout evaluates to input · \(1 − p\).*to_inverted"):
        ao.convert(ready, static_mapping())


@pytest.mark.parametrize("name", _ON_ROWS)
def test_quantised_tensors_pass_a_layer_in_evaluation(name):
    model = wrapped(BETWEEN[name]()).eval()
    model.qconfig = ao.get_default_qconfig("x86")
    ready = ao.prepare(model)
    ready(rows())
    done = ao.convert(ready)
    assert torch.equal(done(rows()), done(rows()))


@pytest.mark.parametrize(
    ("name", "options"),
    [("LSTM", {"num_layers": 2, "dropout": 0.5, "bidirectional": True}), ("GRU", {"input_p": 0.5})],
)
def test_quantize_dynamic_of_a_recurrent_layer(name, options):
    """By the mapping, and by way of torch.nn's layer: the same numbers."""
    kind = getattr(nn, name)
    model, x = torch.nn.Sequential(kind(4, 8, weight_p=0.5, **options)), torch.randn(5, 3, 4)
    mapped = ao.quantize_dynamic(model, {kind}, mapping=dynamic_mapping())
    state = torch.get_rng_state()
    plain = strip(model, copy=True).model
    assert torch.equal(torch.get_rng_state(), state), "a random number was drawn"
    assert type(mapped[0]).__module__ == "torch.ao.nn.quantized.dynamic.modules.rnn"
    assert type(plain[0]) is getattr(torch.nn, name)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert torch.equal(plain.eval()(x)[0], model.eval()(x)[0])
    assert torch.equal(ao.quantize_dynamic(plain)(x)[0], mapped(x)[0])


def test_quantize_dynamic_of_drop_connect():
    model = torch.nn.Sequential(nn.DropConnectLinear(6, 5), torch.nn.Linear(5, 4))
    done = ao.quantize_dynamic(model, {torch.nn.Linear, nn.DropConnectLinear}, mapping=dynamic_mapping())
    found = {type(module).__name__ for module in done}
    assert found == {"Linear"}
    assert all("quantized" in type(module).__module__ for module in done)
    torch.testing.assert_close(done(rows()), model.eval()(rows()), atol=0.05, rtol=0.05)


def test_remove_dropout_removes_ours():
    from torch.fx.experimental.optimization import remove_dropout  # imports what torch has deprecated

    model = network(nn.Dropout(0.5))
    removed = remove_dropout(model)
    assert not any(isinstance(module, nn.Dropout) for module in removed.modules())
    assert torch.equal(removed(rows()), model.eval()(rows()))


@pytest.mark.parametrize("way", [unconvert, strip])
def test_what_to_script_can_be_scripted(way):
    model = network(nn.Dropout(0.5))
    scripted = torch.jit.script(way(model, copy=True).model.eval())
    assert torch.equal(scripted(rows()), model.eval()(rows()))
    assert type(model[1]) is nn.Dropout


def test_a_frozen_trace_of_a_model_in_evaluation_has_no_dropout():
    model = network(nn.Dropout(0.5)).eval()
    frozen = torch.jit.freeze(torch.jit.trace(model, rows()))
    assert "dropout" not in str(frozen.graph)
    assert torch.equal(frozen(rows()), model(rows()))


def onnx(model, x, dynamo):
    """The names of the file's operators."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            return [
                node.op_type for node in torch.onnx.export(model, x, dynamo=True, verbose=False).model.graph
            ]
        file = io.BytesIO()
        training = torch.onnx.TrainingMode.TRAINING if model.training else torch.onnx.TrainingMode.EVAL
        torch.onnx.export(model, x, file, dynamo=False, training=training, do_constant_folding=False)
        return [node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node]


@pytest.mark.covering(strength=1)  # which operator it is, a layer says; how it is written, the exporter
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["Dropout", "Dropout2d", "DropPath", "StochasticDepth"])
def test_onnx_has_its_own_dropout(name, dynamo):
    layer = LAYERS[name]
    model = torch.nn.Sequential(torch.nn.Identity(), layer.make())
    operators = onnx(model, layer.inputs(), dynamo)
    assert operators.count("Dropout") == 1
    assert "Dropout" not in onnx(model.eval(), layer.inputs(), dynamo)


@pytest.mark.parametrize("name", ["AlphaDropout", "DropBlock2d", "DropConnect", "EmbeddingDropout", "LSTM"])
def test_onnx_of_other_layers_in_training_is_an_error(name):
    layer = LAYERS[name]
    with pytest.raises(RuntimeError, match=r"ONNX has no operator for .* Export model\.eval\(\)"):
        onnx(torch.nn.Sequential(layer.make()), layer.inputs(), dynamo=False)


def test_onnx_of_a_keyed_layer_in_training_is_an_error():
    model = keyed(torch.nn.Sequential(nn.Dropout(0.5)), 1)
    with pytest.raises(
        RuntimeError, match=r"ONNX has no operator for the mask of a key.*keyed\(model, None\)"
    ):
        onnx(model, (rows(),), dynamo=False)
    assert "Dropout" in onnx(keyed(model, None), (rows(),), dynamo=False)


@pytest.mark.full  # the error is that of the other exporter; this one takes seconds to try
@pytest.mark.filterwarnings("ignore")
def test_the_newest_exporter_says_so_too():
    """It takes our error for a reason to try another way: the warning is what is seen first."""
    pytest.importorskip("onnxscript")
    with (
        pytest.warns(UserWarning, match=r"ONNX has no operator") as seen,
        pytest.raises(Exception, match="thinned"),
    ):
        torch.onnx.export(network(nn.AlphaDropout(0.5)), (rows(),), dynamo=True, verbose=False)
    assert any("Export model.eval()" in str(each.message) for each in seen)


def test_pt2e_of_torchao():
    """The pass itself, where it is installed; `switched` in test_torch_seams.py does what it does."""
    pt2e = pytest.importorskip("torchao.quantization.pt2e", reason="torchao is not installed")
    program = torch.export.export(network(nn.Dropout(0.5)), (rows(),)).module()
    pt2e.move_exported_model_to_eval(program)
    assert torch.equal(program(rows()), program(rows()))
    pt2e.move_exported_model_to_train(program)
    assert not torch.equal(program(rows()), program(rows()))


def test_gru_names_whose_proj_size_is():
    with pytest.raises(ValueError, match=r"proj_size is LSTM's, and a GRU has none, got 3"):
        nn.GRU(4, 8, proj_size=3)


def test_convert_does_not_promise_torch_jit_script():
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Dropout(0.5)))
    (reason,) = {
        why for name, why in thinned.torch.convert(scripted).possible.items() if name == "(the model)"
    }
    assert "torch.jit.script takes none of ours" in reason
