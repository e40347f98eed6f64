"""Concrete dropout's synthetic experiment: p falls with the data, and the noise is found."""

import importlib.util
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "concrete.py"


@pytest.fixture(scope="module")
def concrete():
    spec = importlib.util.spec_from_file_location("concrete", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.full
def test_more_data_means_a_lower_rate(concrete):
    """Five seeds, each of which has to say so; the rates are sensible, and the noise has deviation 1."""
    with threadpool_limits(1):
        found = concrete.run((25, 400, 6400), seeds=5, width=32, steps=400)
    few, more, many = (found[size]["p"] for size in (25, 400, 6400))
    assert all(a > b > c for a, b, c in zip(few, more, many, strict=True))
    assert all(0.02 < p < 0.5 for p in few)
    assert max(many) < 0.05
    assert sum(found[6400]["noise"]) / 5 == pytest.approx(1.0, abs=0.1)


def test_the_table_has_means_and_standard_errors(concrete):
    table = concrete.table({25: {"p": [0.1, 0.3], "noise": [1.0, 1.0], "networks": [0.5, 0.7]}})
    assert "| 25 | 0.200 ± 0.100 | 1.000 ± 0.000 | 0.600 ± 0.100 |" in table
