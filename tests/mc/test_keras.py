"""Monte Carlo prediction on each of Keras's backends, and equal samples on all three, in JAX and in NumPy."""

import hashlib

import keras_process
import nested
import numpy as np
import pytest
import torch
from keras_process import BACKENDS

import thinned

SUITE = keras_process.SUITES[1]
# The first test to ask waits for the whole process: 90 CPU seconds, and more where others take them.
pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize("backend", BACKENDS)
def test_checks(on_keras, backend, subtests):
    nested.show(keras_process.of(on_keras(backend), SUITE), subtests)


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_loads_no_framework_but_keras_own(on_keras, backend):
    said = on_keras(backend)["modules"][SUITE.module]
    assert backend == said["backend"]
    assert backend in said["before"]
    assert said["after"] == said["before"]


# As in mc_keras_samples.py, which imports Keras.
RATES = (0.2, 0.5)
KEY = thinned.Key(2**63 + 5, 9)
SAMPLES, INPUTS = 6, 5
PAIRS = [("keras", True), ("thinned", False)]
PAIRS += [pytest.param(*pair, marks=pytest.mark.full) for pair in (("keras", False), ("thinned", True))]


def key(k, i, shared):
    return KEY.fold(k) if shared else KEY.fold(k).fold(i)


def numbers():
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=size).astype("float32") / 3 for size in ((INPUTS, 8), (8, 16), (16, 4)))


@pytest.mark.parametrize(("family", "shared"), PAIRS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_are_numpys(on_keras, backend, shared, family):
    masks = [
        [
            np.concatenate(
                [thinned.keep_mask((3, 7), p, key=key(k, i, shared).fold(n)) for n, p in enumerate(RATES)],
                axis=-1,
            )
            for i in range(INPUTS)
        ]
        for k in range(SAMPLES)
    ]
    digest = hashlib.sha256(np.array(masks).tobytes()).hexdigest()
    assert on_keras(backend)["modules"][SUITE.module]["found"][f"{family} masks {shared}"] == digest


@pytest.mark.parametrize(("family", "shared"), PAIRS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_are_those_of_numpy_torch_and_jax(on_keras, backend, shared, family):
    x, first, second = numbers()

    def one(k, i):
        of = key(k, i, shared)
        h = thinned.dropout(x[i : i + 1], RATES[0], key=of.fold(0), training=True) @ first
        return (thinned.dropout(np.maximum(h, 0), RATES[1], key=of.fold(1), training=True) @ second)[0]

    outputs = np.array(on_keras(backend)["modules"][SUITE.module]["found"][f"{family} outputs {shared}"])
    expected = [[one(k, i) for i in range(INPUTS)] for k in range(SAMPLES)]
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(outputs, jaxs(shared), atol=1e-6)
    np.testing.assert_allclose(outputs, torchs(shared), atol=1e-6)


def torchs(shared):
    from thinned.mc.torch import predict

    x, *kernels = (torch.from_numpy(array) for array in numbers())
    first, second = (torch.nn.Linear(*kernel.shape, bias=False) for kernel in kernels)
    for layer, kernel in zip((first, second), kernels, strict=True):
        layer.weight.data = kernel.T.contiguous()
    drops = [torch.nn.Dropout(p) for p in RATES]
    model = torch.nn.Sequential(drops[0], first, torch.nn.ReLU(), drops[1], second)
    return predict(model, x, samples=SAMPLES, key=KEY, keep=True, shared=shared).draws


def jaxs(shared):
    import jax

    from thinned.jax import dropout, fold
    from thinned.mc.jax import predict

    x, first, second = numbers()

    def apply(x, key):
        h = jax.nn.relu(dropout(x, RATES[0], key=fold(key, 0), training=True) @ first)
        return dropout(h, RATES[1], key=fold(key, 1), training=True) @ second

    return predict(apply, x, samples=SAMPLES, key=KEY, keep=True, shared=shared).draws
