"""thinned compare-dropouts: what is clear for all families at once, and no winner where there is none."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from thinned.cli import main
from thinned.demo.compared import MEASURES, Sizes, first, split, trained, verdicts
from thinned.demo.compared_text import as_markdown, findings
from thinned.demo.families import families, network, probabilities
from thinned.torch import nn


def rows(**shifts):
    """Ten seeds each; a family differs from none by its shift, and by chance."""
    drawn = np.random.default_rng(0)
    common = drawn.normal(0.1, 0.02, 10)
    return {
        name: {key: list(common + shift + drawn.normal(0, 0.001, 10)) for key in (*MEASURES, "step")}
        for name, shift in {"none": 0.0, **shifts}.items()
    }


def test_a_difference_is_clear_pair_by_pair_and_for_all_at_once():
    found = verdicts(rows(better=-0.01, worse=0.01, same=0.0), "error")
    assert (found["better"].clear, found["worse"].clear, found["same"].clear) == (True, True, False)
    assert found["none"].gap is None
    edge = rows(edge=0.0)
    edge["edge"]["error"] = [
        value + 0.001 * (1 + 1.1 * (-1) ** n) for n, value in enumerate(edge["none"]["error"])
    ]
    alone = verdicts(edge, "error")["edge"]
    many = verdicts({**edge, **{f"other {n}": edge["none"] for n in range(40)}}, "error")["edge"]
    assert alone.clear
    assert not many.clear


def test_there_is_no_winner_where_there_is_none():
    best, equal = first(rows(a=0.0, b=0.0), "nll")
    assert len(equal) == 2
    assert any("no winner" in line for line in findings(rows(a=0.0, b=0.0)))
    best, equal = first(rows(a=-0.05, b=0.0), "nll")
    assert (best, equal) == ("a", [])
    assert any("a is clearly ahead of all others" in line for line in findings(rows(a=-0.05, b=0.0)))


def test_a_table_marks_what_is_clear():
    data = {
        "sizes": {"seeds": 10, "train": 200, "epochs": 20, "batch": 40, "width": 128},
        "rates": {"none": "–", "better": "0.5"},
        "sets": {"digits": rows(better=-0.01)},
    }
    text = as_markdown(data, "thinned compare-dropouts")
    assert "## Digits" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| better |")]
    assert line.count("▼") == 3
    (line,) = [line for line in text.splitlines() if line.startswith("| none |")]
    assert line.count("▼") == 0


def test_all_families_start_from_the_same_weights():
    states = {}
    for family in families(16, 10):
        torch.manual_seed(3)
        net = network(family, 5, 3, 16, 100)
        states[family.name] = [p.flatten()[0].item() for p in net.parameters() if p.dim() == 2]
        assert probabilities(family, net.eval(), torch.randn(8, 5)).sum(1).allclose(torch.ones(8).double())
    plain = states.pop("none")
    assert all(set(plain) <= set(state) for state in states.values())


@pytest.mark.full
def test_masks_are_of_seed_and_family():
    """Two trainings are equal to the bit."""
    family = next(one for one in families(16, 10) if one.name == "Dropout")
    sizes, data = Sizes(2, epochs=2, width=16), split("breast cancer", 200, 0)
    one, other = (trained(family, data, sizes, 5)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert any(isinstance(module, nn.Dropout) for module in one.modules())


@pytest.mark.full
def test_the_command_writes_a_table_and_its_numbers(tmp_path):
    out = tmp_path / "table.md"
    result = CliRunner().invoke(main, ["compare-dropouts", "--quick", "--seeds", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.with_suffix(".json").read_text())
    assert set(numbers["sets"]) == {"digits", "breast cancer"}
    names = {family.name for family in families(16, 10)}
    for found in numbers["sets"].values():
        assert set(found) == names
        assert all(len(values) == 2 for one in found.values() for values in one.values())
    assert out.read_text().count("| Masksembles |") == 2


def test_a_table_that_is_its_own_numbers_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["compare-dropouts", "--out", str(tmp_path / "table.json")])
    assert result.exit_code == 2
    assert "it names the table" in " ".join(result.output.split())
