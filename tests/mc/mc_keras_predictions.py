"""On the active backend: Monte Carlo prediction's chunks, what it leaves alone, and what it refuses.

Run by `mc/test_keras.py` on each of the three.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src import backend
from mc_keras_models import KEY, array, model_of, normal, tight

import thinned.keras as ours
from thinned.mc._collect import SilentError
from thinned.mc.keras import predict


def mlp(family=layers):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(12, activation="tanh"),
            family.Dropout(0.2),
            layers.BatchNormalization(),
            layers.Dense(16, activation="relu"),
            family.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    statistics = model.layers[2]
    statistics.moving_mean.assign(normal(12) / 9)
    statistics.moving_variance.assign(abs(normal(12)) + 0.5)
    return model


X = normal(20, 8)


@pytest.mark.parametrize("family", [layers, ours], ids=["keras", "thinned"])
def test_batches_and_chunks_change_nothing(family):
    model = mlp(family)
    whole = predict(model, X, samples=12, key=KEY, keep=True, outputs="logits")
    assert whole.draws.shape == (12, 20, 4)
    for options in (
        {"batch_size": 1},
        {"batch_size": 7},
        {"batch_size": 64},
        {"memory": 4 * tight(model, X)},
        {"memory": 40 * tight(model, X), "batch_size": 7},
    ):
        other = predict(model, X, samples=12, key=KEY, keep=True, outputs="logits", **options)
        np.testing.assert_allclose(other.draws, whole.draws, atol=1e-6, err_msg=str(options))
        np.testing.assert_allclose(other.mutual_information, whole.mutual_information, atol=1e-6)
    part = predict(model, X[3:4], samples=10, key=KEY, keep=True, outputs="logits")
    first = predict(model, X[:1], samples=10, key=KEY, keep=True, outputs="logits")
    np.testing.assert_allclose(first.draws, whole.draws[:10, :1], atol=1e-6)
    assert not np.allclose(part.draws, whole.draws[:10, 3:4])  # the input's number is its key's


def test_tolerance_stops_each_input_by_itself():
    model = mlp()
    whole = predict(model, X, samples=60, key=KEY, keep=True)
    found = predict(model, X, samples=60, key=KEY, keep=True, tolerance=0.2, batch_size=7)
    assert 10 <= found.samples.min() < found.samples.max() <= 60
    assert (found.standard_error.mean[found.samples < 60] <= 0.2).all()
    for i, count in enumerate(found.samples):
        np.testing.assert_allclose(found.draws[:count, i], whole.draws[:count, i], atol=1e-6)
        assert np.isnan(found.draws[count:, i]).all()


def state(model):
    everything = [array(v.value).tobytes() for v in model.variables]
    instances = [sorted(vars(layer)) for layer in model._flatten_layers()]
    return everything, instances, backend.random.dropout


@pytest.mark.parametrize("family", [layers, ours], ids=["keras", "thinned"])
def test_nothing_of_the_model_changes(family):
    """Among its variables are the statistics of BatchNormalization and the states of seed generators."""
    model = mlp(family)
    evaluated = array(model(X))
    model.add(layers.Reshape((2, 2)))
    model.add(family.LSTM(3, dropout=0.3, recurrent_dropout=0.3))
    before = state(model)
    assert predict(model, X, samples=5).std.all()
    assert state(model) == before
    model.pop()
    assert (array(model(X)).reshape(evaluated.shape) == evaluated).all()


class Fails(layers.Layer):
    """Fails in a batch."""

    def call(self, x):
        if x.shape[0] > 1:
            raise ArithmeticError("on purpose")
        return x


def test_the_model_is_restored_after_an_exception():
    inner = model_of(layers.SimpleRNN(4, dropout=0.3, recurrent_dropout=0.3, return_sequences=True), (3, 5))
    model = keras.Sequential([*inner.layers, layers.Dropout(0.5), Fails(), layers.GaussianNoise(1)])
    x = normal(2, 3, 5)
    model(x[:1])
    before = state(model)
    with pytest.raises(ArithmeticError, match="on purpose"):
        predict(model, x, samples=5)
    assert state(model) == before


def test_a_weight_that_changes_is_seen():
    model = mlp()
    first = predict(model, X, samples=5, key=KEY)
    model.set_weights([2 * w if w.dtype == np.float32 else w for w in model.get_weights()])
    assert (predict(model, X, samples=5, key=KEY).mean != first.mean).any()


def test_silence_names_what_was_silent():
    with pytest.raises(SilentError, match="no stochastic layer of a rate above 0"):
        predict(model_of(layers.Dropout(0.0), (8,)), X, samples=3)

    class Asks(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dropout(0.5, name="inner")

        def call(self, x, training=False):
            return self.inner(x) if training else x + 0.0

    model = Asks()
    model(X)
    with pytest.raises(SilentError, match="'inner' was not called: the model asks for training=True first"):
        predict(model, X, samples=3)

    class Other(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(0)

        def call(self, x, training=False):
            return x * keras.random.uniform(x.shape, seed=self.seed_generator) if training else x

    with pytest.raises(SilentError, match=r"'other' \(Other\) draws in a way of its own"):
        predict(model_of(Other(name="other"), (8,)), X, samples=3)
    lost = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5, name="lost"), layers.Rescaling(0)])
    with pytest.raises(SilentError, match=r"although 1 sites drew .*dropout 'lost', 0.5"):
        predict(lost, X, samples=3)


def test_a_batch_that_is_not_the_first_axis_is_refused():
    inputs = keras.Input((5, 4))
    turned = layers.Dropout(0.5, name="turned")(keras.ops.transpose(inputs, (1, 0, 2)))
    model = keras.Model(inputs, keras.ops.transpose(turned, (1, 0, 2)))
    with pytest.raises(ValueError, match="the batch has to stay the first axis"):
        predict(model, normal(3, 5, 4), samples=5)


def test_arguments_are_checked():
    model = mlp()
    for options, error, message in (
        ({"samples": 1}, ValueError, "samples must be at least 2, got 1"),
        ({"key": 3}, TypeError, "key must be a thinned.Key, got 3"),
        ({"outputs": "odds"}, ValueError, "outputs must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"memory": 0}, ValueError, "memory must be at least 1, got 0"),
        ({"memory": 99}, ValueError, "memory=99 bytes are too few: one sample of one input takes"),
    ):
        with pytest.raises(error, match=message):
            predict(model, X, **options)
    with pytest.raises(TypeError, match=r"model must be a keras\.Model"):
        predict(lambda x: x, X)
    with pytest.raises(ValueError, match="x has no inputs"):
        predict(model, X[:0])
    with pytest.raises(ValueError, match="differ in their first axis"):
        predict(model, [X, X[:3]])
    with pytest.raises(ValueError, match="leaves numbers for 1 inputs below"):
        predict(model, X, first=2**60 - 1)
    with pytest.raises(ValueError, match="x must be an array, or a structure of arrays"):
        predict(model, 5)
    with pytest.raises(TypeError, match=r"x must hold numbers, got ndarray of object: .*to_numpy"):
        predict(model, X.astype(object))
    inputs = keras.Input((8,))
    two = keras.Model(inputs, [layers.Dropout(0.5)(inputs), inputs])
    with pytest.raises(TypeError, match="model must give one tensor"):
        predict(two, X)


def test_progress(capsys):
    predict(mlp(), X, samples=5, progress=True)
    assert "predict" in capsys.readouterr().err
