"""Breaks of `make sabotage` fit the sources as they are, and name tests that exist."""

import pytest
from breaks import ROOT
from every import EVERY


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_a_break_fits_the_sources(one):
    before = (ROOT / one.file).read_text()
    assert one.applied(before) != before


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_its_tests_exist(one):
    for test in one.tests:
        path, _, name = test.partition("::")
        assert (ROOT / "tests" / path).exists()
        if name:
            assert f"def {name.partition('[')[0]}(" in (ROOT / "tests" / path).read_text()


def test_names_are_told_apart():
    assert len({one.name for one in EVERY}) == len(EVERY) >= 30
