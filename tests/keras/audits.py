"""The audit of a Keras model: faults are found, each by its rule alone; healthy models are silent."""

import contextlib
import random

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


class Drawn(L.Layer):
    """Draws from Keras's own generator, in evaluation too; fails in training where it is told to."""

    def __init__(self, fails=False):
        super().__init__()
        self.fails = fails

    def call(self, x, training=False):
        np.random.rand(), random.random()  # noqa: NPY002 - the global generators are meant
        y = x * keras.ops.cast(keras.random.uniform((64, 32)) < 0.5, x.dtype)
        if training and self.fails:
            raise RuntimeError("boom")
        return y

    def compute_output_shape(self, shape):
        return shape  # Keras need not trace the call, which with JAX 0.12 it refuses to


@pytest.mark.parametrize("fails", [False, True])
def test_generators_of_the_process_are_put_back_after_a_failure_too(fails):
    def draws():
        return [*keras.ops.convert_to_numpy(keras.random.normal((3,))), np.random.rand(), random.random()]  # noqa: NPY002

    model = net(Drawn(fails), L.Dropout(0.5))
    model.build((64, 32))
    keras.utils.set_random_seed(1)
    wanted = draws()
    keras.utils.set_random_seed(1)
    with pytest.raises(RuntimeError, match="boom") if fails else contextlib.nullcontext():
        assert "THN401" in {one.code for one in audit(model, X, repeats=2).findings}
    assert draws() == wanted
    assert "call" not in vars(model.layers[2])


def shared():
    x = L.Input((32,))
    drop = L.Dropout(0.5)
    return keras.Model(x, {"sum": L.Add()([drop(L.Dense(8)(x)), drop(L.Dense(8)(x))]), "x": (x,)})


def test_a_shared_layer_and_a_mapping_of_outputs():
    result = audit(shared(), X, repeats=2)
    assert not result.findings
    assert [site["name"].rpartition(" (")[2] for site in result.sites][1:] == ["call 1)"]


def test_a_mapping_of_inputs_in_mixed_precision():
    a, b = L.Input((32,), name="a"), L.Input((32,), name="b")
    drop = L.Dropout(0.1, dtype="mixed_bfloat16")
    model = keras.Model({"a": a, "b": b}, [drop(L.Concatenate()([a, b])), a])
    assert [one.code for one in audit(model, {"a": X, "b": X}).findings] == ["THN415"]
