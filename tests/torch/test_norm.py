"""Dropout, residual and norm where there is no kernel: the calls that they stand for."""

import copy

import pytest
import torch

from thinned import Key
from thinned.torch import _key, functional, keyed, nn, set_step
from thinned.torch.functional import dropout_add, dropout_add_layer_norm, dropout_add_rms_norm

# torch compiles derivatives of its own with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
KEY = Key(7)


def plain(layer):
    """torch's own class of the norm."""
    return next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn"))


def case(dtype=torch.float32, shape=(5, 12)):
    generator = torch.Generator().manual_seed(1)
    x, residual = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(2))
    weight, bias = (torch.rand(shape[-1:], generator=generator).to(dtype).requires_grad_() for _ in range(2))
    return x, residual, weight, bias


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_they_are_the_calls_to_the_bit(p, dtype, training):
    for rms in (False, True):
        results = []
        for fused in (True, False):
            x, residual, weight, bias = case(dtype)
            where = {"p": p, "training": training, "key": KEY}
            leaves = (x, residual, weight) if rms else (x, residual, weight, bias)
            if not fused:
                total = dropout_add(x, residual, **where)
                norm = torch.nn.functional.rms_norm if rms else torch.nn.functional.layer_norm
                normed = norm(total, (12,), *leaves[2:], eps=torch.finfo(dtype).eps if rms else 1e-5)
            elif rms:
                normed, total = dropout_add_rms_norm(x, residual, 12, weight, **where)
            else:
                normed, total = dropout_add_layer_norm(x, residual, [12], weight, bias, **where)
            grads = torch.autograd.grad((normed, total), leaves, (total.detach(), normed.detach()))
            results.append((normed, total, *grads))
        for ours, plain in zip(*results, strict=True):
            assert torch.equal(ours, plain)


@pytest.mark.parametrize("kind", [nn.DropoutAddLayerNorm, nn.DropoutAddRMSNorm])
def test_the_layers(kind):
    x, residual, *_ = case()
    layer = keyed(kind(12, 0.5), 3)
    assert isinstance(layer, (torch.nn.LayerNorm, torch.nn.RMSNorm))
    for step in range(2):
        set_step(layer, step)
        normed, total = layer(x, residual)
        assert torch.equal(total, dropout_add(x, residual, 0.5, True, key=layer.key.fold(step)))
        assert torch.equal(normed, plain(layer).forward(layer, total))
    assert torch.equal(copy.deepcopy(layer)(x, residual)[1], layer(x, residual)[1])
    assert not torch.equal(layer(x, residual, call=1)[1], layer(x, residual)[1])
    assert torch.equal(layer.eval()(x, residual)[1], x + residual)
    assert repr(layer).startswith(f"{kind.__name__}((12,), eps=")
    assert repr(layer).endswith(", p=0.5)")
    with pytest.raises(ValueError, match="p must be in"):
        kind(12, -1.0)


def test_layers_load_torchs_weights():
    torchs = torch.nn.LayerNorm(12)
    torch.nn.init.normal_(torchs.weight)
    layer = nn.DropoutAddLayerNorm(12)
    layer.load_state_dict(torchs.state_dict())
    assert torch.equal(layer.weight, torchs.weight)


def test_a_drawn_key_is_where_its_generator_is():
    generator = torch.Generator().manual_seed(5)
    key = _key.draw(generator)
    generator.manual_seed(5)
    y = functional.dropout(torch.ones(100), 0.5, True, generator=generator)
    assert torch.equal(y, functional.dropout(torch.ones(100), 0.5, True, key=key))


def test_a_fold_keeps_a_tensors_device():
    assert _key.fold(_key.key_to_tensor(KEY), 3).tolist() == [7, _key.key_to_tensor(KEY.fold(3))[1].item()]


@pytest.mark.parametrize("call", [dropout_add_layer_norm, dropout_add_rms_norm])
def test_a_normalized_shape_is_that_of_the_last_dimensions(call):
    x, residual, *_ = case()
    with pytest.raises(TypeError, match="normalized_shape must be"):
        call(x, residual, 1.5, training=True)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        call(x, residual, 11, training=True)
