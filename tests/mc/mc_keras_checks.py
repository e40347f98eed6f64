"""On the active backend: what Monte Carlo prediction draws, layer by layer.

Run by `mc/test_keras.py` on each of the three.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src import backend
from mc_keras_models import KEY, RNG, array, model_of, normal, tight

import thinned.keras as ours
from thinned import contract, dropout
from thinned.mc.keras import predict

SAMPLES, INPUTS = 2, 2


def draws(model, x, **options):
    options = {"samples": SAMPLES, "key": KEY, "keep": True, **options}
    return predict(model, x, **options).draws


def one_by_one(call, x, shared=False):
    """What a function of one input and its key gives, for all samples and inputs."""
    keys = [[KEY.fold(k) if shared else KEY.fold(k).fold(i) for i in range(len(x))] for k in range(SAMPLES)]
    return np.stack([np.concatenate([call(x[i : i + 1], key) for i, key in enumerate(row)]) for row in keys])


def drop(x, p, key, **options):
    return dropout(x, p, key=key, training=True, **options)


def trained(layer, x):
    return array(layer(x, training=True))


# Each of the four pairs is tested on MLPs, by `mc/test_keras.py`.
@pytest.mark.parametrize(("family", "shared"), [(layers, False), (ours, True)], ids=["keras", "thinned"])
@pytest.mark.parametrize(
    ("kind", "options", "shape", "noise"),
    [
        ("Dropout", {"rate": 0.3}, (5, 7), None),
        ("Dropout", {"rate": 0.5, "noise_shape": (None, 1, None)}, (5, 7), (1, 1, 7)),
        ("Dropout", {"rate": 0.5, "noise_shape": (1, 5, 1)}, (5, 7), (1, 5, 1)),
        ("SpatialDropout1D", {"rate": 0.5}, (5, 7), (1, 1, 7)),
        ("SpatialDropout2D", {"rate": 0.5, "data_format": "channels_first"}, (5, 3, 2), (1, 5, 1, 1)),
        ("SpatialDropout2D", {"rate": 0.5, "data_format": "channels_last"}, (5, 3, 2), (1, 1, 1, 2)),
        ("SpatialDropout3D", {"rate": 0.5, "data_format": "channels_last"}, (2, 3, 2, 9), (1, 1, 1, 1, 9)),
    ],
)
def test_masks_are_numpys(family, kind, options, shape, noise, shared):
    x = normal(INPUTS, *shape)
    expected = one_by_one(
        lambda x, key: drop(x, options["rate"], key.fold(0), noise_shape=noise), x, shared=shared
    )
    found = draws(model_of(getattr(family, kind)(**options), shape), x, shared=shared)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shared", [False, True])
def test_parts_of_a_whole_have_its_samples(shared):
    model, x = model_of(layers.Dropout(0.3), (5, 7)), normal(7, 5, 7)
    parts = [draws(model, x[first : first + 3], first=first, shared=shared) for first in (0, 3, 6)]
    assert np.concatenate(parts, axis=1).tobytes() == draws(model, x, shared=shared).tobytes()
    with pytest.raises(ValueError, match=r"first must be in \[0, 2\^60\), got -1"):
        draws(model, x, first=-1)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_masks_are_those_of_any_type(policy):
    if policy == "float64" and backend.backend() == "jax":
        return
    x = np.ones((INPUTS, 50), "float32")
    found = draws(model_of(layers.Dropout(0.3, dtype=policy), (50,)), x)
    expected = one_by_one(lambda x, key: drop(x, 0.3, key.fold(0)), x)
    assert ((found != 0) == (expected != 0)).all()


@pytest.mark.parametrize(
    ("theirs", "kind", "options", "shape", "places"),
    [
        (True, "AlphaDropout", {"rate": 0.3}, (5, 7), 6),
        (False, "AlphaDropout", {"rate": 0.3}, (5, 7), 6),
        (True, "AlphaDropout", {"rate": 0.3, "noise_shape": (None, 1, None)}, (5, 7), 6),
        (True, "GaussianDropout", {"rate": 0.3}, (5, 7), 5),
        (False, "GaussianDropout", {"rate": 0.3}, (5, 7), 5),
        (False, "SimpleRNN", {"dropout": 0.3, "recurrent_dropout": 0.4}, (3, 7), 5),
        (True, "SimpleRNN", {"dropout": 0.3, "recurrent_dropout": 0.4}, (3, 7), 5),
        (False, "GRU", {"dropout": 0.3, "recurrent_dropout": 0.4}, (3, 7), 5),
        (True, "GRU", {"dropout": 0.3}, (3, 7), 5),
        (False, "LSTM", {"dropout": 0.3}, (3, 7), 5),
        (True, "LSTM", {"dropout": 0.3}, (3, 7), 5),
        (True, "LSTM", {"dropout": 0.3, "recurrent_dropout": 0.4}, (3, 7), 5),
    ],
)
def test_other_layers_draw_as_ours_do_in_training(theirs, kind, options, shape, places):
    """Call n of a layer of ours with a `Key` has the mask of `key.fold(n)`, and so has site n."""
    x = normal(INPUTS, *shape)
    if "rate" not in options:
        options = {"units": 4, "unroll": True, **options}
    model = model_of(getattr(layers if theirs else ours, kind)(**options), shape)
    weights = [w for w in model.get_weights() if w.dtype == np.float32]

    def call(x, key):
        layer = getattr(ours, kind)(**options, seed=key)
        layer.build((1, *shape))
        for variable, value in zip(layer.trainable_variables, weights, strict=True):
            variable.assign(value)
        return trained(layer, x)

    found = draws(model, x)
    np.testing.assert_allclose(found, one_by_one(call, x), atol=10.0**-places, rtol=10.0**-places)
    assert found.std(axis=0).any()


def test_gaussian_noise():
    x = normal(INPUTS, 5, 7)
    found = draws(model_of(layers.GaussianNoise(0.5), (5, 7)), x)
    places = np.arange(35).reshape(1, 5, 7)
    expected = one_by_one(lambda x, key: x + 0.5 * contract.normal(key.fold(0), places), x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_drop_connect(shared):
    x = normal(INPUTS, 6)
    dense = layers.Dense(4)
    model = model_of(ours.DropConnect(dense, 0.5), (6,))
    kernel, bias = dense.get_weights()
    expected = one_by_one(lambda x, key: x @ drop(kernel, 0.5, key.fold(0)) + bias, x, shared)
    np.testing.assert_allclose(draws(model, x, shared=shared), expected, atol=1e-6)
    assert (array(dense.kernel) == kernel).all()


@pytest.mark.parametrize("library", [layers, ours], ids=["keras", "thinned"])
def test_multi_head_attention(library):
    x = normal(INPUTS, 5, 8)
    inputs = keras.Input((5, 8))
    attention = library.MultiHeadAttention(2, 4, dropout=0.4)
    model = keras.Model(inputs, attention(inputs, inputs))
    found = draws(model, x)

    def call(x, key):
        attention._dropout_layer = ours.Dropout(0.4, seed=key)
        return array(attention(x, x, training=True))

    before = attention._dropout_layer
    attention._tracker.unlock()
    np.testing.assert_allclose(found, one_by_one(call, x), atol=1e-5)
    attention._dropout_layer = before


@pytest.mark.parametrize("library", [layers, ours], ids=["keras", "thinned"])
@pytest.mark.parametrize("kind", ["Attention", "AdditiveAttention"])
def test_attention(kind, library):
    x = normal(INPUTS, 5, 8)
    inputs = keras.Input((5, 8))
    layer = getattr(library, kind)(dropout=0.4)
    model = keras.Model(inputs, layer([inputs, inputs]))
    found = draws(model, x)

    def call(x, key):
        scores = array(layer([x, x], return_attention_scores=True)[1])
        return drop(scores, 0.4, key.fold(0)) @ x

    np.testing.assert_allclose(found, one_by_one(call, x), atol=1e-5)


def test_wrapped_and_stacked_layers_draw():
    x = normal(INPUTS, 5, 7)
    cells = [layers.LSTMCell(4, dropout=0.3), ours.GRUCell(3, recurrent_dropout=0.3)]
    for layer in (
        layers.Bidirectional(layers.LSTM(4, dropout=0.3)),
        layers.RNN(cells),
        layers.TimeDistributed(layers.Dropout(0.3)),
        layers.ConvLSTM1D(3, 2, dropout=0.3, recurrent_dropout=0.2),
    ):
        shape = (5, 7, 1) if isinstance(layer, layers.ConvLSTM1D) else (5, 7)
        model = model_of(layer, shape)
        found = draws(model, x.reshape(INPUTS, *shape))
        assert found.std(axis=0).reshape(INPUTS, -1).any(axis=1).all(), layer
        if type(layer) is layers.RNN:
            single = draws(model, x, memory=tight(model, x))
            np.testing.assert_allclose(found, single, atol=1e-5, err_msg=str(layer))


def test_time_distributed_counts_the_times():
    x = normal(INPUTS, 3, 7)
    found = draws(model_of(layers.TimeDistributed(layers.Dropout(0.3)), (3, 7)), x)
    expected = one_by_one(
        lambda x, key: np.stack([drop(x[:, t], 0.3, key.fold(t)) for t in range(3)], axis=1), x
    )
    assert found.tobytes() == expected.tobytes()


def test_a_rate_of_0_is_no_site_and_a_rate_of_1_drops_all():
    x = normal(INPUTS, 9)
    stack = [keras.Input((9,)), layers.Dropout(0), layers.AlphaDropout(0), ours.Dropout(0.3)]
    found = draws(keras.Sequential(stack), x)
    assert found.tobytes() == one_by_one(lambda x, key: drop(x, 0.3, key.fold(0)), x).tobytes()
    stack = [
        keras.Input((9,)),
        layers.Dropout(1),
        layers.Dense(9, bias_initializer="ones"),
        layers.Dropout(0.5),
    ]
    found = draws(keras.Sequential(stack), x)
    ones = np.ones((INPUTS, 9), "float32")
    assert found.tobytes() == one_by_one(lambda x, key: drop(x, 0.5, key.fold(1)), ones).tobytes()


class Own(keras.Model):
    """Everything that a model may say of training, and dropout without a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop, self.generator = layers.Dropout(0.3), keras.random.SeedGenerator(1)
        self.scale = layers.Dense(6)

    def call(self, x, training=None):
        x = self.drop(x, training=training)
        x = keras.ops.reshape(self.scale(x), (-1, 3))
        x = self.drop(x, training=False)
        return keras.ops.reshape(keras.random.dropout(x, 0.5, seed=self.generator), (-1, 6))


def test_subclassed_models_and_functional_dropout():
    x = normal(INPUTS, 4)
    model = Own()
    model(x)
    kernel, bias = model.scale.get_weights()

    def call(x, key):
        x = (drop(x, 0.3, key.fold(0)) @ kernel + bias).reshape(-1, 3)
        return drop(drop(x, 0.3, key.fold(1)), 0.5, key.fold(2)).reshape(-1, 6)

    for options in ({}, {"memory": tight(model, x)}, {"batch_size": 1}):
        np.testing.assert_allclose(draws(model, x, **options), one_by_one(call, x), atol=1e-5)
    np.testing.assert_allclose(draws(model, x, shared=True), one_by_one(call, x, shared=True), atol=1e-5)


class Seen(layers.Layer):
    """Notes the batch that it is called with."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.batches = []

    def call(self, x):
        self.__dict__["batches"].append(x.shape[0])
        return x


def branches(before):
    """Branches that join, a mask that is passed on, and a part before the first site."""
    words, numbers = keras.Input((5,), name="words", dtype="int32"), keras.Input((3,), name="numbers")
    read = layers.Embedding(10, 6, mask_zero=True)(words)
    dense = before(layers.Dense(8, activation="tanh")(numbers))
    late = layers.Dropout(0.4, name="late")(layers.Dense(4)(layers.Dropout(0.2, name="a")(dense)))
    text = layers.LSTM(4, dropout=0.3, name="text")(read)
    joined = layers.Concatenate()(
        [layers.BatchNormalization()(dense), late, text, layers.GlobalAveragePooling1D()(read)]
    )
    return keras.Model({"words": words, "numbers": numbers}, layers.Dense(3)(joined + 1.0))


class Around(keras.Model):
    """Hides that a model is a graph."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner(x, training=training)


def test_the_part_before_the_first_site_runs_once_for_each_input():
    before = Seen()
    model = branches(before)
    x = {"words": RNG.integers(0, 4, (10, 5)), "numbers": normal(10, 3)}
    before.batches.clear()
    found = draws(model, x, batch_size=4, samples=30, memory=10**8)
    blocks = [1, 4, 4, 4] if backend.backend() == "torch" else [1, 4]  # compiled once, it is traced once
    assert before.batches == blocks
    around = Around(model)
    around(x)
    before.batches.clear()
    whole = draws(around, x, batch_size=4, samples=30, memory=10**8)
    assert set(before.batches) == {1, 120}
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert found.std(axis=0).all()
