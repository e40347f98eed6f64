"""The checks of this folder on each of Keras's backends, and equal digests of all three."""

import hashlib
from functools import cache
from pathlib import Path

import keras_process
import pytest
from keras_process import BACKENDS

import thinned
from thinned import Key

HERE = Path(__file__).parent
CHECKS = ["masks", "rules", "recurrent", "models", "seams"]
# Keras's and its backends' own.
WARNINGS = [
    "ignore:__array__ implementation doesn't accept:DeprecationWarning",
    "ignore:The model does not have any trainable weights",
    "ignore:`torch.jit.script:DeprecationWarning",
]


@cache
def examined(backend):
    return keras_process.examined(backend, "thinned.keras", "digests", CHECKS, WARNINGS, HERE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_checks(backend):
    child = examined(backend)
    assert child["checks"] == 0, child["report"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_loads_no_framework_but_keras_own(backend):
    child = examined(backend)
    assert backend == child["backend"]
    assert backend in child["before"]
    assert child["after"] == child["before"]


def test_equal_digests():
    """Of the golden mask, 200 random cases, three calls of a model, and a cell's masks."""
    found = {backend: examined(backend)["found"] for backend in BACKENDS}
    golden = hashlib.sha256(thinned.keep_mask((1000,), 0.1, key=Key(42, 7)).view("uint8").tobytes())
    assert golden.hexdigest() == "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"
    for backend in BACKENDS:
        assert found[backend]["golden"] == golden.hexdigest()
        assert found[backend] == found["torch"], backend
        assert len(set(found[backend]["model"])) == 3


def test_another_backend_is_refused():
    code = """
import keras
try:
    import thinned.keras
except ImportError as error:
    print(error)
"""
    printed = keras_process.run("numpy", "-c", code, path=HERE).stdout
    assert "needs Keras's backend to be torch, jax or tensorflow, got numpy" in printed
