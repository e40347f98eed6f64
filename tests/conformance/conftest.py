"""Every face of the contract behind the same few verbs, NumPy arrays in and out."""

import numpy as np
import pytest
from conformance_faces import FACES, LACKS


def pytest_generate_tests(metafunc):
    if "face" in metafunc.fixturenames:
        metafunc.parametrize("face", FACES.values(), ids=FACES)


@pytest.fixture
def needs(face):
    """Skip nothing silently: what a face lacks is in the table, and the test then shows that it does."""

    def check(feature):
        if (face.family, feature) in LACKS:
            pytest.skip(f"{face.family} lacks {feature}: {LACKS[face.family, feature]}")

    return check


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield
