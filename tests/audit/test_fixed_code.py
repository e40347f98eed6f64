"""Code with a mistake, run before a fix and after it: the fault is there, and then it is gone."""

import warnings

import numpy as np
import pytest

pytest.importorskip("libcst")

from tests.audit.test_pages import FIXABLE

from thinned.audit import check_text
from thinned.audit._fix import fixable, fixed_text

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nN = 4000\n"
NET = HEAD + "class Net(nn.Module):\n    def forward(self, x):\n        "


def drops(values):
    return bool((np.asarray(values) == 0).any())


def in_evaluation(names):
    torch = names["torch"]
    return drops(names["Net"]().eval()(torch.ones(64, 64)).detach())


def never_in_training(names):
    torch = names["torch"]
    x = torch.ones(64, 64)
    return torch.equal(names["Net"]().train()(x), x)


def share_is_wrong(names):
    return abs(float(np.mean(np.asarray(names["y"]) == 0)) - 0.1) > 0.05


def attention_varies(names):
    torch = names["torch"]
    net, x = names["Net"]().eval(), torch.randn(1, 2, 64, 8)
    return not torch.equal(net(x), net(x))


def gradient_is_wrong(names):
    torch = names["torch"]
    x = torch.ones(4000, requires_grad=True)
    y = names["forward"](torch.nn.Dropout(0.5), x)
    y.sum().backward()
    return not torch.equal(y == 0, x.grad == 0)


def fails(text):
    try:
        exec(text, {})
    except (ValueError, TypeError):
        return True
    return False


def warns(text):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(text, {})
    return any("dropout" in str(one.message) for one in caught)


MULTI_HEAD = NET + (
    "x, w, b, o = x[0], torch.ones(24, 8) / 8, torch.zeros(24), torch.eye(8)\n        return "
    "F.multi_head_attention_forward(x, x, x, 8, 2, w, b, None, None, False, 0.9, o, None)[0]"
)
CASES = {
    "THN101": (NET + "return F.dropout(x, 0.5)", in_evaluation),
    "THN102": (NET + "return F.alpha_dropout(x, 0.5)", never_in_training),
    "THN103": (NET + "return F.dropout(x, 0.5, training=True)", in_evaluation),
    "THN104": (
        HEAD + "class Net(nn.Module):\n    p = 0.5\n    def forward(self, x):\n"
        "        return F.scaled_dot_product_attention(x, x, x, dropout_p=self.p)",
        attention_varies,
    ),
    "THN105": (MULTI_HEAD, attention_varies),
    "THN106": (NET + "return nn.Dropout(0.5)(x)", in_evaluation),
    "THN107": (HEAD + "keep_prob = 0.9\ny = nn.Dropout(keep_prob)(torch.ones(N))", share_is_wrong),
    "THN108": (HEAD + "rnn = nn.LSTM(2, 2, dropout=0.5)", warns),
    "THN109": (NET + "F.dropout(x, 0.5, training=self.training)\n        return x", never_in_training),
    "THN113": (HEAD + "y = nn.Dropout(10)(torch.ones(N))", fails),
    "THN115": (HEAD + "model = nn.Dropout(0.1)\nmodel.eval\ny = model(torch.ones(N))", "y"),
    "THN125": (
        "import torch\nfrom torch.utils.checkpoint import checkpoint\ndef forward(block_with_dropout, x):\n"
        "    return checkpoint(block_with_dropout, x, use_reentrant=False, preserve_rng_state=False)",
        gradient_is_wrong,
    ),
    "THN201": ("import tensorflow as tf\ny = tf.nn.dropout(tf.ones(4000), keep_prob=0.9)", fails),
    "THN211": (
        "import tensorflow.compat.v1 as tf\ndropout_rate = 0.1\n"
        "y = tf.nn.dropout(tf.ones(4000), dropout_rate)",
        share_is_wrong,
    ),
}
SLOW = {"THN201", "THN211"}  # they import TensorFlow


def has_fault(text, fault):
    if fault in (fails, warns):
        return fault(text)
    names = {}
    exec(compile(text, "case", "exec"), names)
    return drops(names["y"]) if fault == "y" else fault(names)


@pytest.mark.parametrize(
    "code", [pytest.param(one, marks=[pytest.mark.full] if one in SLOW else []) for one in CASES]
)
def test_the_fault_is_there_before_the_fix_and_not_behind_it(code):
    if code in SLOW:
        pytest.importorskip("tensorflow")
    pytest.importorskip("torch").manual_seed(0)
    text, fault = CASES[code]
    assert has_fault(text, fault)
    found = fixable(check_text(text, codes=[code]), unsafe=True)
    assert [one.code for one in found] == [code]
    after, _ = fixed_text(text, found)
    assert not has_fault(after, fault)


def test_every_rule_with_a_fix_is_here():
    assert set(FIXABLE) == set(CASES)
