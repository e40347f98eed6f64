"""Breaks of `make sabotage` fit the sources as they are, and name tests that exist."""

from breaks import ROOT
from every import EVERY


def test_a_break_fits_the_sources():
    for one in EVERY:
        before = (ROOT / one.file).read_text()
        assert one.applied(before) != before, one.name


def test_its_tests_exist():
    for one in EVERY:
        for test in one.tests:
            path, _, name = test.partition("::")
            assert (ROOT / "tests" / path).exists(), one.name
            if name:
                text = (ROOT / "tests" / path).read_text()
                assert f"def {name.partition('[')[0]}(" in text, one.name


def test_names_are_told_apart():
    assert len({one.name for one in EVERY}) == len(EVERY) >= 30
