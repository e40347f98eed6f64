"""Every front end behind the same few verbs, NumPy arrays in and out."""

import numpy as np
import pytest
from conformance_faces import ASKED_ONCE, FACES, LACKS, LEFT, REPEATED, compiles

ASKED = set()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(feature): only of faces that do not lack it")
    config.addinivalue_line("markers", "arguments: decided before a framework traces, divides or compiles")


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


def pytest_itemcollected(item):
    """What the quick tier leaves to the full one."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    face = next((name for name, face in FACES.items() if face is params.get("face")), None)
    numbers = params.get("numbers")
    many = numbers is not None and compiles(face) and (numbers.start > 0 or other_type(face, params["part"]))
    if many or face in LEFT or (item.get_closest_marker("arguments") and repeated(item.originalname, face)):
        item.add_marker("full")


def other_type(face, part):
    """Whether a face whose cases another has in every type is asked for one of another type."""
    return face in REPEATED and REPEATED.index(face) != part


def repeated(ruling, face):
    """Whether the quick tier has the ruling by another face, or by another case of this one."""
    again = face in ASKED_ONCE and (ruling, face) in ASKED
    ASKED.add((ruling, face))
    return again or face in REPEATED


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield
