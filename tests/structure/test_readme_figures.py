"""The README's table: every figure is in a file of `thinned bench`, with its machine and date beside it."""

import itertools
import json
import re
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MACHINES = {"results": "AMD EPYC", "attention": "Intel Xeon", "thin": "Intel Xeon"}
# A row of the table by its beginning: the file in benchmarks/, and rows there by their beginnings.
SOURCES = {
    "PyTorch, 16 Mi elements in place": ("results", ["float32, 16 Mi, in place"]),
    "PyTorch, 1 Mi elements": ("results", ["float32, 1 Mi, fresh output"]),
    "PyTorch, a training step's time": (
        "results",
        ["training step, the paper's network", "training step, two"],
    ),
    "PyTorch, 100 Monte Carlo": ("results", ["Monte Carlo prediction, 100 samples, the paper's network"]),
    "PyTorch, [attention]": ("attention", ["attention, float32, 1024"]),
    "PyTorch, a training step of a [thinned": (
        "thin",
        ["thin training step, the paper's network, batch"],
    ),
    "JAX": ("results", ["JAX"]),
    "TensorFlow": ("results", ["TensorFlow"]),
    "Keras": ("results", ["Keras on"]),
}
TABLE = re.findall(r"^\| ((?:PyTorch|JAX|TensorFlow|Keras).*)\|$", README, re.MULTILINE)


def figures(text):
    """Numbers of a row that are milliseconds or ratios, those of lists such as `12, 10, 17 ms` too."""
    for listed, unit in re.findall(r"((?:[\d.,]+(?: ×)?(?:, |; | to ))*[\d.,]+) ?(ms|×)", text):
        yield from ((number, unit) for number in re.findall(r"\d[\d,]*\.?\d*", listed))


def measured(file, rows):
    """Every time in milliseconds and every ratio of the named rows."""
    found = json.loads((ROOT / "benchmarks" / f"{file}.json").read_text())["rows"]
    chosen = [row for row in found if row["name"].startswith(tuple(rows))]
    assert chosen, (file, rows)
    times = [1000 * second for row in chosen for second in row["seconds"].values()]
    ratios = [figure["measured"] for row in chosen for figure in row["figures"]]
    pairs = [a / b for row in chosen for a, b in itertools.permutations(row["seconds"].values(), 2)]
    return {"ms": times, "×": [*ratios, *(1 / one for one in ratios if one), *pairs]}


def is_one_of(number, values):
    """A number as it is written is a value, rounded to its last digit."""
    plain = number.replace(",", "").rstrip(".")
    step = 10 ** -len(plain.partition(".")[2])
    shown = float(plain)
    return any(abs(shown - one) <= 0.5001 * step or shown == float(f"{one:.3g}") for one in values)


@pytest.mark.parametrize("row", [row for row in TABLE if "saved for" not in row], ids=lambda row: row[:30])
def test_every_figure_of_a_row_was_measured(row):
    (source,) = [where for begins, where in SOURCES.items() if row.startswith(begins)]
    pool = measured(*source)
    wrong = [(number, unit) for number, unit in figures(row) if not is_one_of(number, pool[unit])]
    assert list(figures(row))
    assert wrong == []


def test_machines_and_dates_stand_beside_the_table():
    assert len(TABLE) == len(SOURCES) + 1
    for file, machine in MACHINES.items():
        said = json.loads((ROOT / "benchmarks" / f"{file}.json").read_text())["machine"]
        assert said["processor"].replace("(R)", "").startswith(machine)
        assert datetime.fromisoformat(said["date"]).date().isoformat() in README
        assert machine in README
