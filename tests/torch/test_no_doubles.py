"""Devices without float64 get none, and compute the same bits."""

import pytest
import torch
from torch_no_doubles import device

from thinned import Key
from thinned.torch import functional

KEY = Key(5)
SHAPE = (3, 4, 5, 6)
P = torch.tensor([0.1, 0.0, 1.0]).reshape(3, 1, 1, 1)

VERBS = {
    "dropout": lambda x, p: functional.dropout(x, p, True, key=KEY),
    "classic": lambda x, p: functional.dropout(x, p, True, key=KEY, mode="classic"),
    "classic evaluation": lambda x, p: functional.dropout(x, p, False, mode="classic"),
    "dropout2d": lambda x, p: functional.dropout2d(x, p, True, key=KEY),
    "drop_path": lambda x, p: functional.drop_path(x, p, True, key=KEY),
    "alpha_dropout": lambda x, p: functional.alpha_dropout(x, p, True, key=KEY),
    "feature_alpha_dropout": lambda x, p: functional.feature_alpha_dropout(x, p, True, key=KEY),
    "gaussian_dropout": lambda x, p: functional.gaussian_dropout(x, p * 0.9, True, key=KEY),
    "drop_block2d": lambda x, p: functional.drop_block2d(x, p, 2, True, key=KEY),
    "zoneout": lambda x, p: functional.zoneout(x, x * 2, p, True, key=KEY),
    "zoneout in evaluation": lambda x, p: functional.zoneout(x, x * 2, p, False),
    "dropout_add": lambda x, p: functional.dropout_add(x, x, p, True, key=KEY),
    "dropout_add_layer_norm": lambda x, p: functional.dropout_add_layer_norm(
        x, x, 6, p=p, training=True, key=KEY
    )[0],
    "drop_connect_linear": lambda x, p: functional.drop_connect_linear(
        x[:, 0, 0], x[0, 0], None, p.reshape(-1, *p.shape[2:]) if p.dim() else p, True, key=KEY
    ),
    "scaled_dot_product_attention": lambda x, p: functional.scaled_dot_product_attention(
        x, x, x, None, p, training=True, dropout_key=KEY
    ),
    "a key of a tensor": lambda x, p: functional.dropout(x, p, True, key=torch.tensor([1, 2])),
}


@pytest.mark.covering(strength=1)  # one function places p for all verbs
@pytest.mark.parametrize("which", ["one p", "one p, there", "p for each sample", "p for each sample, there"])
@pytest.mark.parametrize("name", VERBS)
def test_no_float64_is_sent_there_and_the_bits_are_equal(name, which):
    p = torch.tensor(0.3) if "one" in which else P
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(SHAPE).to(dtype)
        expected = VERBS[name](x, p)
        with device() as (there, here):
            got = here(VERBS[name](there(x), there(p) if "there" in which else p))
        if name == "scaled_dot_product_attention":  # sums in another order than the kernel's
            tolerance = 1e-5 if dtype == torch.float32 else 4e-2
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(got, expected)


def test_the_device_refuses_float64():
    with device() as (there, _), pytest.raises(AssertionError, match="float64 tensor was sent"):
        there(torch.ones(3)).double()
