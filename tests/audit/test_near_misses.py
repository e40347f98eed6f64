"""Code that looks like a mistake and is none; and mistakes in other spellings."""

import textwrap

import pytest

from thinned.audit import DEFAULT, RULES, check_text

TORCH = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"

RIGHT = {
    "THN101": [
        "def f(x, training):\n    return F.dropout(x, 0.5, training)",
        "def f(x, on):\n    return F.dropout(x, 0.5, on)",
        "def f(x, training):\n    if training:\n        x = F.dropout(x, 0.5)\n    return x",
        "def f(x, training):\n    if not training:\n        return x\n    return F.dropout(x, 0.5)",
        "def f(x, **options):\n    return F.dropout(x, **options)",
        "y = F.dropout(x, 0.0)",
        "def dropout(x):\n    return x\ny = dropout(1)",
        "class Net(nn.Module):\n    def dropout(self, x):\n        return x\n    def forward(self, x):\n"
        "        return self.dropout(x)",
        "y = F.dropout(x, 0.5) if model.training else x",
        "def train_step(x):\n    return F.dropout(x, 0.5)",
        "def thin(x, depth):\n    return thin(F.dropout(x, 0.5), depth - 1) if depth else x\n"
        "def f(x, training):\n    return thin(x, 2) if training else x",
        "class A(nn.Module):\n    def forward(self, inputs):\n        x, use_dropout = inputs\n"
        "        return F.dropout(x, 0.5) if use_dropout else x",
        "def f(q, p=0.1):\n    if p > 0.0:\n        q = F.dropout(q, p=p)\n    return q",
        "class A(nn.Module):\n    def forward(self, x):\n        p = self.p if self.training else 0.0\n"
        "        return F.dropout(x, p)",
    ],
    "THN104": [
        "y = F.scaled_dot_product_attention(q, k, v)",
        "y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)",
        "def f(q, k, v, dropout_p):\n    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)",
        "class A(nn.Module):\n    def forward(self, q):\n        p = self.p if self.training else 0\n"
        "        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)",
        "class A(nn.Module):\n    def forward(self, q):\n        p = self.p\n        if not self.training:\n"
        "            p = 0.0\n        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)",
        "class A(nn.Module):\n    def forward(self, q):\n        return F.scaled_dot_product_attention("
        "q, q, q, dropout_p=self.p * self.training)",
    ],
    "THN106": [
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.d = nn.Dropout(0.5)\n    def forward(self, x):\n        return self.d(x)",
        "def forward(x):\n    return nn.Dropout(0.5)(x)",
        "class A(nn.Module):\n    def forward(self, x, training=False):\n        if training:\n"
        "            x = nn.Dropout(0.5)(x)\n        return x",
    ],
    "THN107": [
        "d = nn.Dropout(1 - keep_prob)",
        "d = nn.Dropout(keepdim)",
        "d = nn.Dropout(p=bookkeeping)",
        "d = nn.Dropout(1.0 - cfg.keep_prob)",
        "import tensorflow as tf\nx = tf.placeholder(tf.float32)\ny = tf.nn.dropout(x, self.keep_prob)",
    ],
    "THN108": [
        "r = nn.LSTM(3, 4, 2, dropout=0.5)",
        "r = nn.LSTM(3, 4, num_layers=n, dropout=0.5)",
        "r = nn.GRU(3, 4, dropout=0.0)",
        "r = nn.LSTM(3, 4, dropout=0.5 if n > 1 else 0.0)",
    ],
    "THN109": [
        "F.dropout(x, 0.5, training, inplace=True)",
        "F.dropout(x, 0.5, training, True)",
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.d = nn.Dropout(0.5, inplace=True)\n    def forward(self, x):\n"
        "        self.d(x)\n        return x",
    ],
    "THN110": [
        "s = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3), nn.Softmax(1))",
        "s = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 3), nn.Softmax(1))",
        "y = F.softmax(F.dropout(scores, 0.1, training), dim=-1)",
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(3, 3)\n        self.drop = nn.Dropout(0.5)\n    def forward(self, x):\n"
        "        a = self.fc(x)\n        a = self.drop(a)\n        a = F.softmax(a, dim=1)\n"
        "        return a @ x",
    ],
    "THN111": [
        "s = nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.5))",
        "s = nn.Sequential(nn.Dropout(0.0), nn.Dropout(0.5))",
        "s = nn.Sequential(nn.Dropout2d(0.5), nn.Dropout(0.5))",
        "class A(nn.Module):\n    def forward(self, x):\n        y = F.dropout(x, 0.5, self.training)\n"
        "        z = F.dropout(x, 0.5, self.training)\n        return y, z",
        "class A(nn.Module):\n    def forward(self, x):\n        x = F.dropout(x, 0.5, self.training)\n"
        "        if self.wide:\n            x = F.dropout(x, 0.5, self.training)\n        return x",
    ],
    "THN112": [
        "s = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))",
        "s = nn.Sequential(nn.Dropout(0.5), nn.LayerNorm(3))",
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.bn = nn.BatchNorm1d(3)\n        self.drop = nn.Dropout(0.5)\n"
        "    def forward(self, x):\n        x = self.drop(x)\n        x = x.view(-1)\n"
        "        y = self.bn(self.fc(x.sum()))\n        return y",
    ],
    "THN113": ["d = nn.Dropout(1)", "d = nn.Dropout(p)", "d = nn.Dropout(0)"],
    "THN114": ["d = nn.Dropout(0.1)", "d = nn.Dropout(0)", "d = nn.Dropout(False)"],
    "THN115": [
        "dropout = 1\nmodel.eval()",
        "dropout = 1\nmode = model.eval",
        "dropout = 1\nmodel.train(False)",
    ],
    "THN116": [
        "dropout = 1\nfor e in range(3):\n    model.train()\n    loss.backward()\n    model.eval()",
        "dropout = 1\nfor e in range(3):\n    loss.backward()\nmodel.eval()",
        "dropout = 1\nfor e in range(3):\n    swap_training(a, b)\n    loss.backward()\n    a.eval()",
        "dropout = 1\nfor e in range(3):\n    frozen.eval()\n    model.train()\n    loss.backward()",
    ],
    "THN119": [
        "for m in model.modules():\n    if isinstance(m, nn.Dropout):\n        m.p = 0.3",
        "for m in model.modules():\n    if isinstance(m, (nn.Dropout, nn.Dropout2d)):\n        m.train()",
    ],
    "THN122": [
        "d = nn.Dropout(0.5, True)",
        "def f(x, training):\n    return F.dropout(x, 0.5, training)",
        "d = nn.Dropout(0.5, inplace=training)",
    ],
    "THN123": [
        "s = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Dropout2d(0.5))",
        "s = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))",
    ],
    "THN125": [
        "from torch.utils.checkpoint import checkpoint\ndropout = 1\n"
        "y = checkpoint(f, x, preserve_rng_state=True)",
        "from torch.utils.checkpoint import checkpoint\ndropout = 1\ny = checkpoint(f, x)",
        "dropout = 1\ny = own(f, preserve_rng_state=False)",
    ],
    "THN203": [
        "import keras\na = keras.layers.Dropout(0.5, seed=1)\nb = keras.layers.Dropout(0.5, seed=2)",
        "import keras\nif wide:\n    a = keras.layers.Dropout(0.5, seed=1)\nelse:\n"
        "    a = keras.layers.Dropout(0.5, seed=1)",
        "import keras\ndef a():\n    return keras.layers.Dropout(0.5, seed=1)\ndef b():\n"
        "    return keras.layers.Dropout(0.5, seed=1)",
    ],
    "THN205": [
        "import keras\nfor x, y in batches:\n    dropout = model(x, training=True)",
        "import tensorflow as tf\ndef step():\n    for _ in range(3):\n"
        "        with tf.GradientTape() as tape:\n"
        "            dropout = model(x, training=True)",
        "import keras\ndef test():\n    layer = keras.layers.BatchNormalization()\n    dropout = []\n"
        "    for _ in range(3):\n        dropout.append(layer(x, training=True))",
        "import keras\ndef warm(model, x):\n    dropout = 1\n    for _ in range(3):\n"
        "        y = model(x, training=True)",
    ],
    "THN301": [
        "import equinox as eqx, jax\ndef f(x, key):\n    d = eqx.nn.Dropout(0.5)\n"
        "    a, b = jax.random.split(key)\n"
        "    return d(d(x, key=a), key=b)",
        "import equinox as eqx\ndef f(x, key, wide):\n    d = eqx.nn.Dropout(0.5)\n    if wide:\n"
        "        return d(x, key=key)\n    return d(x + 1, key=key)",
        "import haiku as hk\ndef train(x):\n    a = hk.dropout(hk.next_rng_key(), 0.5, x)\n"
        "    return hk.dropout(hk.next_rng_key(), 0.5, a)",
        "from flax import nnx\ndef f(x, rngs):\n    d = nnx.Dropout(0.5)\n"
        "    return d(d(x, rngs=rngs) + 1, rngs=rngs)",
    ],
    "THN305": [
        "import jax\nfor b in batches:\n    key, k = jax.random.split(key)\n"
        "    y = m.apply(p, b, rngs={'dropout': k})",
        "y = m.apply(p, b, rngs={'dropout': key})",
        "import jax\ndef f(key):\n    return m.apply(p, b, rngs={'dropout': key})",
    ],
    "THN102": [
        "def f(x, training):\n    return F.alpha_dropout(x, 0.5, training)",
        "def f(x, **options):\n    return F.feature_alpha_dropout(x, 0.5, **options)",
        "def alpha_dropout(x):\n    return x\ny = alpha_dropout(1)",
    ],
    "THN103": [
        "def predict(x):\n    return F.dropout(x, 0.5, training=True)",
        "class A(nn.Module):\n    def forward(self, x):\n        if self.training:\n"
        "            x = F.dropout(x, 0.5, training=True)\n        return x",
    ],
    "THN105": [
        "y = F.multi_head_attention_forward(*arguments)",
        "y = F.multi_head_attention_forward(q, k, v, 8, 2, w, b, None, None, False, 0.0, o, c)",
        "y = F.multi_head_attention_forward(q, k, v, 8, 2, w, b, None, None, False, 0.5, o, c, on)",
    ],
    "THN117": [
        "drop = nn.Dropout(0.5)\ndef evaluate(model, x):\n    model.eval()\n    with torch.no_grad():\n"
        "        return model(x)",
        "drop = nn.Dropout(0.5)\ndef evaluate(text):\n    with torch.no_grad():\n        return text",
        "drop = nn.Dropout(0.5)\ndef update(model, x):\n    with torch.no_grad():\n        return model(x)",
    ],
    "THN118": [
        "for m in model.modules():\n    if type(m).__name__ == 'Dropout':\n        m.p = 0.2",
        "for m in model.modules():\n    if type(m).__name__ == 'DropPath':\n        print('Dropout')",
    ],
    "THN120": [
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.drop = nn.Dropout(0.5)\n    def forward(self, x):\n        return self.drop(x)",
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.drop = nn.Dropout(0.5)\n    def forward(self, x, name):\n"
        "        return getattr(self, name)(x)",
    ],
    "THN121": [
        "s = nn.Sequential(nn.Linear(3, 3), nn.SELU(), nn.AlphaDropout(0.1))",
        "s = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.AlphaDropout(0.1))",
    ],
    "THN124": [
        "for m in model.modules():\n    if isinstance(m, nn.Dropout):\n        m.p = 0.3",
        "for m in model.modules():\n    if isinstance(m, nn.Linear):\n        m.p = 0\nd = nn.Dropout(0.5)",
    ],
    "THN127": [
        "class A(nn.Module):\n    def forward(self, x, seed):\n        torch.manual_seed(seed)\n"
        "        return F.dropout(x, 0.5, self.training)",
        "def forward(x):\n    torch.manual_seed(0)\n    return F.dropout(x, 0.5, on)",
    ],
    "THN201": [
        "import tensorflow as tf\nx = tf.placeholder(tf.float32)\ny = tf.nn.dropout(x, keep_prob=0.9)",
        "import tensorflow as tf\ndef f(x):\n    with tf.variable_scope('a'):\n"
        "        return tf.nn.dropout(x, keep_prob=0.9)",
        "import tensorflow as tf\ndef f(x):\n    return tf.nn.dropout(x, keep_prob=0.9)\n\n\n"
        "def far():\n    return tf.estimator.RunConfig()",
        "import tensorflow as tf\ny = own(x, keep_prob=0.9)\nz = tf.nn.dropout(x, rate=0.1)",
    ],
    "THN202": [
        "import tensorflow as tf\nclass A(tf.keras.layers.Layer):\n    def call(self, inputs):\n"
        "        rate = self.rate * inputs[1]\n        return tf.nn.dropout(inputs[0], rate=rate)",
        "import tensorflow as tf\nclass A(tf.keras.layers.Layer):\n    def call(self, x, training=None):\n"
        "        if training:\n            x = tf.nn.dropout(x, 0.5)\n        return x",
        "import tensorflow as tf\ndef call(x):\n    return tf.nn.dropout(x, 0.5)",
        "import tensorflow as tf\nclass A(tf.keras.layers.Layer):\n    def call(self, x, training=None):\n"
        "        return tf.nn.dropout(x, 0.5 if training else 0.0)",
    ],
    "THN204": [
        "import keras\nr = keras.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.2)",
        "import keras\nr = keras.layers.GRU(4, dropout=rate)\nd = 1",
    ],
    "THN207": [
        "import keras\nclass A(keras.layers.Layer):\n    def call(self, x, training=None):\n"
        "        return self.dropout(x, training=training)",
        "import keras\nclass A(keras.layers.Layer):\n    def call(self, x):\n"
        "        return self.norm(x, training=True)",
    ],
    "THN211": [
        "import tensorflow.compat.v1 as tf\ny = tf.nn.dropout(x, 1 - dropout_rate)",
        "import tensorflow.compat.v1 as tf\ny = tf.nn.dropout(x, keep_prob)",
        "import tensorflow as tf\ny = tf.nn.dropout(x, dropout_rate)",
    ],
    "THN212": [
        "import tensorflow.compat.v1 as tf\ny = tf.layers.dropout(x, 0.5, training=on)",
        "import tensorflow.compat.v1 as tf\ny = tf.layers.dropout(x, 0.5, None, None, on)",
    ],
    "THN302": [
        "import flax.linen as nn\ny = nn.Dropout(0.5, deterministic=False)(x)",
        "import flax.linen as nn\ny = nn.Dropout(0.5)(x, deterministic=not train)",
        "import flax.linen as nn\nd = nn.Dropout(0.5)",
    ],
    "THN303": [
        "import flax.linen as nn\nclass A(nn.Module):\n    def __call__(self, x, train):\n"
        "        return nn.Dropout(0.5, deterministic=not train)(x)",
        "import flax.linen as nn\nd = nn.Dropout(0.5, deterministic=False)",
    ],
    "THN304": [
        "import haiku as hk\ndef f(x, is_training):\n    if is_training:\n"
        "        x = hk.dropout(hk.next_rng_key(), 0.5, x)\n    return x",
        "import haiku as hk\ndef f(x, rate):\n    return hk.dropout(hk.next_rng_key(), rate, x)",
        "import haiku as hk\nclass A(hk.Module):\n    def _thin(self, x):\n"
        "        return hk.dropout(hk.next_rng_key(), 0.5, x)\n    def __call__(self, x, is_training):\n"
        "        if is_training:\n            x = self._thin(x)\n        return x",
    ],
    "THN308": [
        "import equinox as eqx, jax\nclass A(eqx.Module):\n    def __call__(self, x, seed):\n"
        "        return eqx.nn.Dropout(0.5)(x, key=jax.random.PRNGKey(seed))",
        "import equinox as eqx, jax\ndef test():\n"
        "    return eqx.nn.Dropout(0.5)(x, key=jax.random.PRNGKey(0))",
    ],
}
STARS = "from torch import *\nfrom torch.nn import *\nfrom torch.nn.functional import *\n"
METHOD = (
    "import torch.nn as nn\nimport torch.nn.functional as F\nclass A(nn.Module):\n    def __init__(self):\n"
    "        super().__init__()\n        self.fc, n = None, 3\n        self.fc = nn.Linear(n, n)\n"
    "        self.bn = nn.BatchNorm1d(n)\n        self.drop = nn.Dropout(0.5)\n    def forward(self, x):\n"
)
WRONG = {
    "THN101": [
        "from torch.nn.functional import dropout as d\ny = d(x)",
        "from torch import nn\nclass A(nn.Module):\n    def forward(self, x):\n"
        "        return nn.functional.dropout2d(x, self.p)",
        "import torch\ny = torch.nn.functional.dropout(x, p=0.3)",
        "from torch.nn.functional import dropout\ndef thin(x):\n    return dropout(x)\n"
        "def f(x, training):\n    return thin(x) if training else x\ndef g(x):\n    return thin(x)",
        STARS + "y = dropout(x)",
        STARS + "class A(Module):\n    def forward(self, x):\n        return dropout(x, self.p)",
    ],
    "THN104": [
        "from torch.nn.functional import scaled_dot_product_attention as sdpa\ny = sdpa(q, k, v, None, 0.1)",
        "import torch.nn.functional as F\nclass A:\n    def forward(self, q):\n        p = self.p\n"
        "        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)",
    ],
    "THN107": [
        "import keras\nd = keras.layers.Dropout(rate=cfg['keep_prob'])",
        "import torch.nn.functional as F\ny = F.dropout(x, self.keep_rate, self.training)",
    ],
    "THN110": [
        "import torch.nn.functional as F\nclass A(nn.Module):\n    def forward(self, x):\n"
        "        return F.log_softmax(F.dropout(self.fc2(x), 0.5, self.training), dim=1)",
        METHOD + "        x = self.fc(x)\n        x = self.drop(x)\n        return F.log_softmax(x, dim=1)",
        METHOD + "        y = self.drop(self.fc(x))\n        return F.softmax(y, dim=1)",
        "from keras.layers import *\nx = Dense(3)(x)\nx = Dropout(0.5)(x)\ny = Activation('softmax')(x)",
    ],
    "THN111": [
        "import torch.nn.functional as F\ny = F.dropout(F.dropout(x, 0.5, on), 0.5, on)",
        "import keras\nm = keras.Sequential()\nm.add(keras.layers.Dropout(0.5))\n"
        "m.add(keras.layers.Dropout(0.5))",
        "from collections import OrderedDict\nfrom torch import nn\n"
        "s = nn.Sequential(OrderedDict([('a', nn.Dropout()), ('b', nn.Dropout())]))",
        METHOD + "        x = F.dropout(x, 0.5, self.training)\n        # and\n\n        x = self.drop(x)\n"
        "        return x",
    ],
    "THN112": [
        "from tensorflow.keras import layers, Sequential\n"
        "m = Sequential([layers.Dropout(0.5), layers.Dense(3), layers.BatchNormalization()])",
        METHOD + "        x = self.drop(x)\n        x = self.bn(x)\n        return x",
        METHOD + "        x = F.relu(self.bn(self.fc(F.dropout(x, 0.2, self.training))))\n        return x",
        "from keras.layers import *\nx = Dropout(0.5)(x)\nx = BatchNormalization()(x)",
    ],
    "THN118": [
        "for m in model.modules():\n    if type(m).__name__ == 'Dropout':\n        m.train()",
    ],
    "THN108": [
        "from torch import nn\nr = nn.LSTM(3, 4, dropout=self.rate)",
        STARS + "r = LSTM(3, 4, dropout=0.5)",
    ],
    "THN203": [
        "from tensorflow.keras.layers import Dropout\na = Dropout(0.5, seed=7)\nb = Dropout(0.3, seed=7)",
    ],
}


def flat(table):
    return [
        pytest.param(code, text, id=f"{code}-{n}")
        for code, texts in table.items()
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(("code", "text"), flat(RIGHT))
def test_what_only_looks_like_a_mistake_is_silent(code, text):
    text = text if text.startswith(("import", "from")) else TORCH + text
    assert [str(one) for one in check_text(text, codes=[code]) if one.code == code] == []


def test_every_rule_has_two_that_only_look_like_it():
    assert {code for code in RULES if len(RIGHT.get(code, ())) < 2} == set()


@pytest.mark.parametrize(("code", "text"), flat(WRONG))
def test_other_spellings_are_found(code, text):
    assert {one.code for one in check_text(text, codes=DEFAULT)} == {code}


def test_a_file_without_the_word_is_not_parsed(monkeypatch, tmp_path):
    monkeypatch.setattr("thinned.audit._check.Source", None)
    file = tmp_path / "a.py"
    file.write_text("model.eval\n")
    from thinned.audit import check_file

    assert check_file(file) == []


@pytest.mark.parametrize("comment", ["# noqa", "# noqa: THN101", "# noqa: E501, THN101", "# NOQA:THN101"])
def test_a_comment_silences_a_line(comment):
    text = f"from torch.nn.functional import dropout\ny = dropout(x)  {comment}\n"
    assert check_text(text) == []


def test_a_comment_for_another_code_does_not():
    text = "from torch.nn.functional import dropout\ny = dropout(x)  # noqa: THN102\n"
    assert [one.code for one in check_text(text)] == ["THN101"]


def test_a_syntax_error_is_one_finding():
    [found] = check_text(
        textwrap.dedent("""
        from torch.nn.functional import dropout
        def f(x:
            return dropout(x)
    """)
    )
    assert found.code == "THN000"
    assert found.start.line >= 3


def test_what_no_rule_looks_at_is_left_out_and_lines_stay():
    text = (
        "import torch.nn as nn\nimport torch.nn.functional as F\n\n\n@decorated\nclass Base(nn.Module):\n"
        "    def other(self):\n        return 1; x = 2\n\n\ndef far():\n    '''\n    text\n    '''\n\n\n"
        "class Net(Base):\n    def forward(self, x):\n        return F.dropout(x, 0.5)\n"
    )
    [found] = check_text(text)
    assert (found.code, found.start.line) == ("THN101", 19)
    assert found.fix is not None  # Base is one of torch's modules
