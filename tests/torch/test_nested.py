"""Evaluation passes through what torch passes through; nested tensors are dropped by their values."""

import pytest
import torch

from thinned import Key
from thinned.torch import functional, nn

# torch says of each of its nested and quantised tensors that they are not final.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

KEY = Key(4)
PARTS = [torch.randn(2, 6), torch.randn(0, 6), torch.randn(5, 6)]
LAYOUTS = [torch.strided, torch.jagged]


def nested(layout, parts=PARTS, **options):
    return torch.nested.nested_tensor(parts, layout=layout, **options)


FOUR = (2, 3, 4, 5)
UNUSUAL = {
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(FOUR), 0.1, 0, torch.quint8),
    "quantised by channel": lambda: torch.quantize_per_channel(
        torch.ones(FOUR), torch.ones(3), torch.zeros(3), 1, torch.qint8
    ),
    "sparse": lambda: torch.ones(FOUR).to_sparse(),
    "hybrid": lambda: torch.ones(FOUR).to_sparse(2),
    "nested": lambda: nested(torch.strided, [torch.ones(FOUR[1:])] * 2),
    "jagged": lambda: nested(torch.jagged, [torch.ones(FOUR[1:])] * 2),
}


VERBS = {
    "dropout": lambda x, training: functional.dropout(x, 0.5, training),
    "p a tensor": lambda x, training: functional.dropout(x, torch.tensor(0.5), training),
    "dropout2d": lambda x, training: functional.dropout2d(x, 0.5, training),
    "dropout3d": lambda x, training: functional.dropout3d(x, 0.5, training),
    "alpha_dropout": lambda x, training: functional.alpha_dropout(x, 0.5, training),
    "feature_alpha_dropout": lambda x, training: functional.feature_alpha_dropout(x, 0.5, training),
    "gaussian_dropout": lambda x, training: functional.gaussian_dropout(x, 0.5, training),
    "drop_block2d": lambda x, training: functional.drop_block2d(x, 0.5, 2, training),
    "drop_path": lambda x, training: functional.drop_path(x, 0.5, training),
    "stochastic_depth": lambda x, training: functional.stochastic_depth(x, 0.5, "row", training),
}
LAYERS = {
    "Dropout": nn.Dropout(),
    "Dropout2d": nn.Dropout2d(),
    "Dropout3d": nn.Dropout3d(),
    "AlphaDropout": nn.AlphaDropout(),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(),
    "GaussianDropout": nn.GaussianDropout(0.5),
    "DropBlock2d": nn.DropBlock2d(0.5, 2),
    "DropPath": nn.DropPath(0.5),
    "StochasticDepth": nn.StochasticDepth(0.5, "row"),
}


@pytest.mark.parametrize("what", UNUSUAL)
@pytest.mark.parametrize("name", [*VERBS, *LAYERS])
def test_evaluation_passes_it_through(name, what):
    x = UNUSUAL[what]()
    assert (VERBS[name](x, False) if name in VERBS else LAYERS[name].eval()(x)) is x


@pytest.mark.parametrize("what", UNUSUAL)
@pytest.mark.parametrize("name", VERBS)
def test_training_drops_nested_tensors_and_refuses_others_plainly(name, what):
    x = UNUSUAL[what]()
    if what in ("nested", "jagged") and name in ("dropout", "p a tensor"):
        assert VERBS[name](x, True).is_nested
        return
    with pytest.raises((TypeError, ValueError), match=r"input must|takes no noise_shape"):
        VERBS[name](x, True)


@pytest.mark.parametrize("training", [True, False])
def test_integers_stay_refused_in_any_layout(training):
    for x in (
        torch.ones(3, 4, dtype=torch.int32).to_sparse(),
        nested(torch.jagged, [torch.ones(2, 3).int()]),
    ):
        with pytest.raises(TypeError, match="input must be"):
            functional.dropout(x, 0.5, training)
        with pytest.raises(ValueError, match="p must be in"):
            functional.dropout(x, 1.5, training)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_the_mask_is_that_of_the_values(layout, mode):
    for training in (True, False):
        y = functional.dropout(nested(layout), 0.4, training, key=KEY, mode=mode)
        values = torch.cat(PARTS)
        expected = functional.dropout(values, 0.4, training, key=KEY, mode=mode).split([2, 0, 5])
        assert y.layout == layout
        for one, other in zip(y.unbind(), expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_have_the_mask(layout):
    x = nested(layout, requires_grad=True)
    y = functional.dropout(x, 0.4, True, key=KEY)
    y.backward(
        nested(layout, [torch.ones_like(one) for one in PARTS]) if layout == torch.strided else y * 0 + 1
    )
    mask = functional.dropout(torch.ones(7, 6), 0.4, True, key=KEY).split([2, 0, 5])
    for one, other in zip(x.grad.unbind(), mask, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layers_of_nested_tensors(layout):
    x = nested(layout)
    assert nn.Dropout(0.0)(x) is x
    assert not any(bool(part.any()) for part in nn.Dropout(1.0)(x).unbind())
    torch.manual_seed(1)
    y = nn.Dropout(0.5)(x)
    torch.manual_seed(1)
    again = functional.dropout(x, 0.5, True)
    assert all(torch.equal(one, other) for one, other in zip(y.unbind(), again.unbind(), strict=True))
    written = nested(layout, [part.clone() for part in PARTS])
    torch.manual_seed(1)
    assert nn.Dropout(0.5, inplace=True)(written) is written
    assert all(torch.equal(one, other) for one, other in zip(written.unbind(), y.unbind(), strict=True))


def test_a_jagged_result_has_the_shape_of_its_input():
    x = nested(torch.jagged)
    y = functional.dropout(x, 0.5, True)
    assert y.shape == x.shape
    assert (x + y).is_nested


def test_memory_does_not_matter():
    parts = [torch.randn(n, 20) for n in (2, 3, 6)]
    one = torch.nested.nested_tensor([part.t() for part in parts])
    other = torch.nested.nested_tensor(parts).transpose(1, 2)
    assert one.is_contiguous()
    assert not other.is_contiguous()
    y, z = (functional.dropout(x, 0.5, True, key=KEY) for x in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(y.unbind(), z.unbind(), strict=True))


def test_what_has_no_order_of_values_is_refused():
    x = nested(torch.jagged)
    with pytest.raises(ValueError, match="ragged in dimension 1"):
        functional.dropout(x.transpose(1, 2), 0.5, True)
    holes = torch.nested.narrow(
        torch.ones(2, 5, 3), 1, torch.tensor([0, 1]), torch.tensor([2, 3]), layout=torch.jagged
    )
    with pytest.raises(ValueError, match="have no holes"):
        functional.dropout(holes, 0.5, True)
    assert functional.dropout(holes.contiguous(), 0.5, True).is_nested
    with pytest.raises(ValueError, match="takes no noise_shape"):
        functional.dropout(x, 0.5, True, noise_shape=(None, 1, None))
    with pytest.raises(ValueError, match="takes no p of one dimension for each"):
        functional.dropout(x, torch.tensor([[[0.5]]]), True)


def test_empty_nested_tensors():
    assert functional.dropout(torch.nested.nested_tensor([]), 0.5, True).is_nested


def test_attention_evaluates_jagged_tensors_as_torch_does():
    heads = nested(torch.jagged, [torch.randn(n, 2, 4) for n in (3, 5)]).transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    got = functional.scaled_dot_product_attention(heads, heads, heads, None, 0.5, training=False)
    for one, other in zip(got.unbind(), expected.unbind(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(TypeError, match="input must not be nested"):
        functional.scaled_dot_product_attention(heads, heads, heads, None, 0.5, training=True)
