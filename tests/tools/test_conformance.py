"""The matrix of masks: its command, and the page that it wrote."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from thinned import contract
from thinned.cli import main
from thinned.conformance import BACKENDS, EXPECTED, as_dict, as_markdown, matrix
from thinned.conformance._case import KEY, SHAPE, SHARDS, P

PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"


DTENSOR = "PyTorch, DTensor"


# Processes and graphs of DTensor take twenty seconds; tests/distributed has them in the quick tier.
@pytest.fixture(
    scope="module", params=[("NumPy",), pytest.param(("NumPy", DTENSOR), marks=pytest.mark.full)], ids=str
)
def names(request):
    return request.param


@pytest.fixture(scope="module")
def cells(names):
    return matrix(list(names))


def test_the_expected_digest_is_the_contracts():
    positions = np.arange(np.prod(SHAPE), dtype=np.uint64)
    kept = contract.keep(KEY, positions, contract.threshold(P))
    assert hashlib.sha256(kept.astype(np.uint8).tobytes()).hexdigest() == EXPECTED


def test_every_cell_has_it_or_says_why_not(names, cells):
    assert len(cells) == len(names) * 2 * 2 * len(SHARDS)
    assert all((cell.digest == EXPECTED) != (cell.reason is not None) for cell in cells)
    run = {(cell.backend, cell.mode, cell.shards) for cell in cells if cell.device == "cpu" and cell.digest}
    assert ("NumPy", "eager", 1) in run
    if DTENSOR in names:
        assert {(DTENSOR, mode, n) for mode in ("eager", "compiled") for n in SHARDS} <= run
    assert as_dict(cells)["equal"]
    assert f"All {sum(cell.digest is not None for cell in cells)} cells" in as_markdown(cells)


def test_another_mask_is_told(cells):
    wrong = [replace(cells[0], digest="0" * 64), *cells[1:]]
    assert not as_dict(wrong)["equal"]
    assert "**1 of" in as_markdown(wrong)
    assert "`000000000000` **differs**" in as_markdown(wrong)


def test_the_command(tmp_path, monkeypatch, cells):
    monkeypatch.setattr("thinned.conformance._matrix._elsewhere", lambda name: cells)
    out = tmp_path / "matrix.md"
    done = CliRunner().invoke(main, ["conformance", "--backend", "NumPy", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text() == as_markdown(cells)
    wrong = [replace(cells[0], digest="0" * 64)]
    monkeypatch.setattr("thinned.conformance._matrix._elsewhere", lambda name: wrong)
    assert CliRunner().invoke(main, ["conformance", "--json"]).exit_code == 1
    refused = CliRunner().invoke(main, ["conformance", "--backend", "Theano"])
    assert refused.exit_code == 2
    assert "'Theano' is none of NumPy" in " ".join(refused.output.split())


def test_what_is_not_installed_is_not_run(monkeypatch):
    monkeypatch.setattr("thinned._installed.find_spec", lambda name: None)
    assert {cell.reason for cell in matrix(["JAX"])} == {"not installed: jax"}


def test_the_page_has_every_backend_and_one_digest():
    text = PAGE.read_text()
    rows = [row for row in text.splitlines() if (row.startswith("| ") and "`" in row) or "not run" in row]
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == set(BACKENDS)
    assert EXPECTED in text
    assert set(re.findall(r"`([0-9a-f]{12})`", text)) == {EXPECTED[:12]}
    assert "differs" not in text
