"""What operators refuse: operands that they cannot mean, and those without values."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from thinned import Key
from thinned.torch import functional, nn

KEY, P = torch.tensor([3, -4]), torch.tensor(0.5, dtype=torch.float64)
OPS = torch.ops.thinned
X = torch.ones(4, 5, 6)


def meta(tensor):
    return tensor.to("meta")


OPERATORS = {
    "dropout": lambda x, key, p: OPS.dropout(x, key, p),
    "gaussian_dropout": lambda x, key, p: OPS.gaussian_dropout(x, key, p),
    "drop_block": lambda x, key, p: OPS.drop_block(x, key, p, [2]),
    "dropout_add": lambda x, key, p: OPS.dropout_add(x, x, key, p),
    "dropout_add_norm": lambda x, key, p: OPS.dropout_add_norm(x, x, None, None, key, p, 1e-5, False, 6),
}
REFUSED = {
    "key without a value": ((X, meta(KEY), P), ValueError, "key is on the meta device and has no value"),
    "p without a value": ((X, KEY, meta(P)), ValueError, "p is on the meta device and has no value"),
    "key of 32 bits": ((X, KEY.int(), P), TypeError, "key must be int64"),
    "key of floats": ((X, KEY.double(), P), TypeError, "key must be int64"),
    "key of three": ((X, torch.ones(3, dtype=torch.int64), P), TypeError, "key must be int64"),
    "key without dimensions": ((X, KEY[0], P), TypeError, "key must be int64"),
    "keys for other rows": ((X, KEY.expand(3, 2), P), ValueError, "key of shape (3, 2) does not fit"),
    "p of the last dimension": ((X, KEY, torch.rand(6)), ValueError, "p of shape (6,) does not fit"),
    "p of too many": ((X, KEY, P.reshape(1, 1, 1, 1)), ValueError, "p of shape (1, 1, 1, 1) does not fit"),
    "p a bool": ((X, KEY, torch.tensor(True)), TypeError, "p must be a real number"),
    "p complex": ((X, KEY, torch.tensor(0.5j)), TypeError, "p must be a real number"),
    "integers": ((X.int(), KEY, P), TypeError, "input must be float32"),
    "sparse": ((X.to_sparse(), KEY, P), TypeError, "input must be strided"),
}


@pytest.mark.parametrize("fake", [False, True], ids=["values", "fake"])
@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_refuses_what_it_cannot_mean(name, what, fake):
    operands, error, words = REFUSED[what]
    if not fake:
        with pytest.raises(error) as caught:
            OPERATORS[name](*operands)
    elif what not in ("key without a value", "p without a value", "sparse"):  # fake ones have none anyway
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, pytest.raises(error) as caught:
            OPERATORS[name](*map(mode.from_tensor, operands))
    else:
        return
    assert words in str(caught.value)


@pytest.mark.parametrize("name", OPERATORS)
def test_what_has_no_values_gives_shapes(name):
    for key, p in ((KEY, P), (meta(KEY), meta(P))):
        result = OPERATORS[name](meta(X), key, p)
        assert (result if isinstance(result, torch.Tensor) else result[0]).device.type == "meta"


def test_masks_and_folded_keys():
    with pytest.raises(ValueError, match="p is on the meta device"):
        OPS.keep_mask([4], KEY, meta(P))
    with pytest.raises(TypeError, match="key must be int64"):
        OPS.keep_mask([4], KEY.int(), P)
    with pytest.raises(ValueError, match="p of shape"):
        OPS.keep_mask([4], KEY, torch.rand(4))
    with pytest.raises(ValueError, match="data is on the meta device"):
        OPS.fold(KEY, meta(torch.tensor(1)))
    with pytest.raises(TypeError, match="data must be integers"):
        OPS.fold(KEY, torch.tensor(1.5))
    with pytest.raises(TypeError, match="key must be int64"):
        OPS.fold(KEY.int(), torch.tensor(1))


def test_tensors_beside_the_input_are_where_it_is():
    with pytest.raises(ValueError, match="residual is on meta and input on cpu"):
        OPS.dropout_add(X, meta(X), KEY, P)
    with pytest.raises(ValueError, match="residual is on cpu and input on meta"):
        OPS.dropout_add(meta(X), X, KEY, P)
    with pytest.raises(ValueError, match="weight is on meta and input on cpu"):
        OPS.dropout_add_norm(X, X, meta(X[0, 0]), None, KEY, P, 1e-5, False, 6)


def test_verbs_that_multiply_refuse_tensors_of_two_devices():
    """torch's product of a tensor on the meta device and one on the CPU is uninitialised memory."""
    q, words = torch.ones(1, 3, 4), torch.tensor([1])
    for operands in ((q, meta(q), q), (q, q, meta(q)), (meta(q), q, q), (q, q, q, meta(q[..., :3]))):
        with pytest.raises(ValueError, match=r"is on .* and query on"):
            functional.scaled_dot_product_attention(*operands, dropout_p=0.5, training=True)
    with pytest.raises(ValueError, match="weight is on cpu and input on meta"):
        functional.drop_connect_linear(meta(X), X[0], None, 0.5, True)
    with pytest.raises(ValueError, match="bias is on meta and input on cpu"):
        functional.drop_connect_linear(X, X[0], meta(X[0, :, 0]), 0.5, True)
    with pytest.raises(ValueError, match="input is on meta and weight on cpu"):
        functional.embedding_dropout(meta(words), X[0], 0.5, True)


VERBS = {
    "dropout": lambda x, **source: functional.dropout(x, 0.5, True, **source),
    "p = 1": lambda x, **source: functional.dropout(x, 1.0, True, **source),
    "p a tensor": lambda x, **source: functional.dropout(x, P.cpu(), True, **source),
    "alpha_dropout": lambda x, **source: functional.alpha_dropout(x, 0.5, True, **source),
    "gaussian_dropout": lambda x, **source: functional.gaussian_dropout(x, 0.5, True, **source),
    "drop_block1d": lambda x, **source: functional.drop_block1d(x, 0.5, 2, True, **source),
    "drop_path": lambda x, **source: functional.drop_path(x, 0.5, True, **source),
    "zoneout": lambda x, **source: functional.zoneout(x, x * 2, 0.5, True, **source),
    "dropout_add": lambda x, **source: functional.dropout_add(x, x, 0.5, True, **source),
    "drop_connect": lambda x, **source: functional.drop_connect_linear(x, x[0], None, 0.5, True, **source),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_context_of_a_device_does_not_reach_what_a_verb_makes(name):
    for source in ({"key": Key(1)}, {}):
        torch.manual_seed(2)
        expected = VERBS[name](X, **source)
        torch.manual_seed(2)
        with torch.device("meta"):
            got = VERBS[name](X, **source)
        assert torch.equal(got, expected)


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {"p a tensor"}))
def test_a_fake_tensor_brings_its_mode(name):
    """As with torch's own verbs: outside the mode too, and without a key."""
    with FakeTensorMode():
        x = torch.ones(4, 5, 6)
    for source in ({"key": Key(1)}, {}):
        result = VERBS[name](x, **source)
        assert type(result) is type(x)
        assert result.shape == x.shape or name == "drop_connect"


def test_layers_take_fake_tensors_outside_their_mode():
    with FakeTensorMode():
        x = torch.ones(4, 5, 6)
    for layer in (nn.Dropout(), nn.Dropout1d(), nn.AlphaDropout(), nn.GaussianDropout(0.5), nn.DropPath(0.5)):
        assert type(layer(x)) is type(x)
