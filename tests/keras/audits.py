"""The audit of a Keras model: faults are found, each by its rule alone; healthy models are silent."""

import keras
import numpy as np
import pytest

import thinned
from thinned import keras as tk
from thinned.keras import audit

L = keras.layers
X = np.random.default_rng(0).standard_normal((64, 32)).astype("float32")


class Kept(L.Layer):
    """By hand: the rate is what is kept, and what is kept is divided by it."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def masked(self, x):
        return x * self.draw(x, self.rate) / self.rate

    def draw(self, x, keep):
        return keras.ops.cast(keras.random.uniform(keras.ops.shape(x)) < keep, x.dtype)

    def call(self, x, training=False):
        return self.masked(x) if training else x


class KeepDropout(Kept):
    pass


class UnscaledDropout(Kept):
    def masked(self, x):
        return x * self.draw(x, 1 - self.rate)


class Always(L.Layer):
    def __init__(self):
        super().__init__()
        self.drop = L.Dropout(0.5)

    def call(self, x):
        return self.drop(x, training=True)


class Never(Always):
    def call(self, x):
        return self.drop(x, training=False)


class Moving(L.Layer):
    def __init__(self):
        super().__init__()
        self.norm = L.BatchNormalization()

    def call(self, x):
        return self.norm(x, training=True)


def net(*layers):
    return keras.Sequential([L.Dense(32), *layers, L.Dense(4)])


FAULTS = {
    "THN401": lambda: net(Always()),
    "THN402": lambda: net(Never()),
    "THN403": lambda: net(UnscaledDropout(0.3)),
    "THN404": lambda: net(KeepDropout(0.9)),
    "THN405": lambda: net(L.Dropout(0.5, seed=1), L.Dense(32), L.Dropout(0.5, seed=1)),
    "THN410": lambda: net(L.Dropout(0.5), L.Dropout(0.5)),
    "THN412": lambda: net(Moving()),
}
HEALTHY = {
    "keras": lambda: net(L.Dropout(0.5)),
    "ours": lambda: net(tk.Dropout(0.5, seed=thinned.Key(1)), L.Dense(32), tk.Dropout(0.5, seed=1)),
    "normalised first": lambda: net(L.BatchNormalization(), L.Dropout(0.3)),
    "alpha and gaussian": lambda: net(L.AlphaDropout(0.2), L.Dense(32), L.GaussianDropout(0.2)),
    "a noise shape": lambda: net(L.Dropout(0.5, noise_shape=(None, 1))),
    "no dropout": lambda: net(),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone(code):
    assert {finding.code for finding in audit(FAULTS[code](), X).findings} == {code}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_silent(name):
    assert [str(finding) for finding in audit(HEALTHY[name](), X).findings] == []


def test_weights_and_seeds_are_put_back():
    model = net(L.BatchNormalization(), tk.Dropout(0.5, seed=1))
    model(X)
    before = [keras.ops.convert_to_numpy(one.value) for one in model.variables]
    audit(model, X)
    after = [keras.ops.convert_to_numpy(one.value) for one in model.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert "call" not in vars(model.layers[2])


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="model must be a Keras layer, got int"):
        audit(3, X)
    with pytest.raises(ValueError, match="repeats must be at least 2, got 1"):
        audit(net(), X, repeats=1)
