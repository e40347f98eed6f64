"""The checks of this folder on each of Keras's backends, and equal digests of all three."""

import hashlib

import keras_process
import nested
import pytest
from keras_process import BACKENDS

import thinned
from thinned import Key

SUITE = keras_process.SUITES[0]
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


def test_equal_digests(on_keras):
    """Of the golden mask, random cases, three calls of a model, and a cell's masks."""
    found = {backend: on_keras(backend)["modules"][SUITE.module]["found"] for backend in BACKENDS}
    golden = hashlib.sha256(thinned.keep_mask((1000,), 0.1, key=Key(42, 7)).view("uint8").tobytes())
    assert golden.hexdigest() == "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"
    for backend in BACKENDS:
        assert found[backend]["golden"] == golden.hexdigest()
        assert found[backend] == found["torch"], backend
        assert len(set(found[backend]["model"])) == 3
