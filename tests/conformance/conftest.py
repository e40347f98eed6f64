"""Every face of the contract behind the same few verbs, NumPy arrays in and out."""

import numpy as np
import pytest
from conformance_faces import FACES, LACKS


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(feature): only of faces that do not lack it")


def pytest_generate_tests(metafunc):
    """A test for each face; what a face lacks is in the documents' table, not among the tests."""
    if "face" in metafunc.fixturenames:
        needed = {mark.args[0] for mark in metafunc.definition.iter_markers("needs")}
        faces = {
            name: face
            for name, face in FACES.items()
            if not any((face.family, feature) in LACKS for feature in needed)
        }
        metafunc.parametrize("face", faces.values(), ids=faces)


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield
