"""`thinned.mc.ray` on a local Ray: any number of workers, one that is killed, errors, and the command."""

import os
import re
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from click.testing import CliRunner

import thinned
import thinned.mc.ray
from thinned.cli import main
from thinned.mc import predict

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # Ray's own, in its settings
    # JAX's, where it was imported before: Ray forks, and at once becomes another program.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

KEY = thinned.Key(2**63 + 5, 11)
ROWS, BATCH, SAMPLES = 192, 16, 20
PAGE = Path(__file__).parents[2] / "docs" / "mc" / "ray.md"
FACTORY = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(37, 129), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(129, 10)
    )"""


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray on this machine, with a processor for each of a few workers: as far as it knows."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has it: a matrix product rounds by its threads too
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 if not said: the tests beside these would come first
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()
    torch.set_num_threads(before)


def mlp():
    made = {}
    exec(FACTORY, made)
    return made["make"]().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """factory.py, and Parquet files with the columns x and label."""
    path = tmp_path_factory.mktemp("ray")
    (path / "factory.py").write_text(FACTORY)
    (path / "inputs").mkdir()
    x = rows()
    for number, first in enumerate(range(0, ROWS, 64)):
        part = slice(first, first + 64)
        table = pa.table({"x": list(x[part]), "label": np.arange(ROWS)[part]})
        pq.write_table(table, path / "inputs" / f"{number}.parquet", row_group_size=40)
    return path


def rows():
    return torch.randn(ROWS, 37, generator=torch.Generator().manual_seed(1)).numpy()


@pytest.fixture(scope="module")
def want():
    return predict(mlp(), rows(), samples=SAMPLES, key=KEY, outputs="logits", batch_size=BATCH)


def started(dataset, model, **options):
    settings = {"samples": SAMPLES, "key": KEY, "outputs": "logits", "batch_size": BATCH, "num_cpus": 0.25}
    return thinned.mc.ray.predict(model, dataset, index="index", **{**settings, **options})


def read(path):
    """What was written, by pandas alone."""
    return pd.read_parquet(path).sort_values("index")


def check(table, want):
    """Every row once, and equal to the bit with what one process gives."""
    assert table["index"].tolist() == list(range(ROWS))
    for name in ("mean", "std", "predictive_entropy", "mutual_information", "variation_ratio"):
        for column, of in ((name, want), (f"{name}_standard_error", want.standard_error)):
            np.testing.assert_array_equal(np.stack(table[column]), getattr(of, name), err_msg=column)
    np.testing.assert_array_equal(table["samples"], want.samples)


def alive(marks):
    return [int(file.name) for file in marks.iterdir() if Path(f"/proc/{file.name}").exists()]


def test_a_worker_that_is_killed_loses_nothing(tmp_path, want):
    """Two workers, each slow; one is killed with SIGKILL when there is a first result, and another made."""
    marks, model = tmp_path / "marks", mlp()
    marks.mkdir()

    def make():
        (marks / str(os.getpid())).touch()
        return model

    def slowly(batch):
        time.sleep(0.1)
        return batch

    x = rows()
    data = ray.data.from_items([{"x": row, "index": i} for i, row in enumerate(x)], override_num_blocks=24)
    found = started(data.map_batches(slowly, batch_size=None, num_cpus=0.25), make, workers=2)
    batches, killed = [], None
    for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
        batches.append(batch)
        if killed is None:
            killed = alive(marks)[0]
            os.kill(killed, signal.SIGKILL)
    assert len(batches) > 2
    assert len(list(marks.iterdir())) == 3
    table = pd.DataFrame(
        {name: np.concatenate([batch[name] for batch in batches]).tolist() for name in batches[0]}
    )
    check(table.sort_values("index"), want)


@pytest.mark.full  # three processes import torch; with two, one of which is killed, the rows are the same
def test_the_page_s_example_on_three_workers(folder, want, monkeypatch, tmp_path):
    """The example of docs/mc/ray.md, as it stands but for the sizes."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    predicted = thinned.mc.ray.predict

    def smaller(model, data, **options):
        options = {
            **options,
            "key": KEY,
            "samples": SAMPLES,
            "batch_size": BATCH,
            "num_cpus": 0.25,
            "workers": 3,
        }
        return predicted(model, data.repartition(16), **options)

    monkeypatch.setattr(thinned.mc.ray, "predict", smaller)
    written = tmp_path / "predictions"
    scope = {"model": mlp(), "inputs": folder / "inputs", "predictions": str(written)}
    exec(code, scope)
    check(read(written), want)
    assert sorted(scope["table"]["label"]) == list(range(ROWS))


def command(*arguments):
    return CliRunner().invoke(main, ["mc", "predict", *(str(argument) for argument in arguments)])


def test_the_command(folder, tmp_path, want):
    settings = ("--samples", SAMPLES, "--workers", 1, "--batch-size", BATCH, "--seed", 4)
    model, inputs = f"{folder / 'factory.py'}:make", folder / "inputs"
    result = command(model, inputs, "--out", tmp_path / "found", *settings, "--keep", "label")
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert shown.startswith(f"{ROWS} inputs predicted with {SAMPLES} samples each in ")
    table = read(tmp_path / "found")
    assert table["label"].tolist() == list(range(ROWS))
    options = {"samples": SAMPLES, "outputs": "logits", "batch_size": BATCH}
    check(table, predict(mlp(), rows(), key=thinned.Key(4), **options))
    again = command(model, inputs, "--out", tmp_path / "found", *settings)
    assert again.exit_code == 2
    assert "is not empty: its rows would mix" in " ".join(again.stderr.split())


def test_a_whole_without_spread_is_an_error():
    """Sites may have drawn, so that no worker could know."""
    found = [{"std": np.zeros(2)}] * 5
    thinned.mc.ray.check_spread(ray.data.from_items([*found, {"std": np.array([0.0, 1e-300])}]))
    with pytest.raises(thinned.mc.SilentError, match="sites drew, but"):
        thinned.mc.ray.check_spread(ray.data.from_items(found))


def test_a_model_that_fails_is_said_once_and_readably(folder, tmp_path):
    model, inputs = f"{folder / 'factory.py'}:make", folder / "inputs"
    result = command(model, inputs, "--out", tmp_path / "a", "--input", "label", "--workers", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: RuntimeError: mat1 and mat2 must have the same dtype")
    assert len(result.stderr.splitlines()) == 1
    assert not any((tmp_path / "a").glob("*.parquet"))
    other = command(model, inputs, "--out", tmp_path / "b", "--input", "y")
    assert other.exit_code == 2
    assert "the dataset has no column 'y': it has 'x', 'label'" in " ".join(other.stderr.split())


def test_rows_are_numbered_in_their_order():
    """Blocks of different sizes, of which the first are the last to come."""

    def some(batch):
        time.sleep(0.5 if batch["id"][0] == 0 else 0.0)
        return {"id": batch["id"][batch["id"] % 3 == 0]}

    data = ray.data.range(50, override_num_blocks=5)
    chosen = data.map_batches(some, batch_size=None, num_cpus=0.5)
    table = thinned.mc.ray.numbered(chosen, "place").to_pandas()
    assert table["place"].tolist() == [row // 3 for row in table["id"]]
    assert sorted(table["id"]) == list(range(0, 50, 3))
    with pytest.raises(ValueError, match="has a column 'id' already"):
        thinned.mc.ray.numbered(data, "id")


@pytest.fixture(scope="module")
def single(cluster):
    """A row, of which Ray reads the columns once."""
    return ray.data.from_items([{"x": 1.0, "index": 0}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, r"workers must be a number from 1, or a pair \(least, most\), got 0"),
        ({"workers": (3, 2)}, "workers must be a number from 1"),
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"outputs": "logit"}, "outputs must be"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"inputs": ()}, "inputs must name at least one column"),
        ({"inputs": "z"}, "the dataset has no column 'z': it has 'x', 'index'"),
        ({"keep_columns": ("mean",)}, "mean would be two columns of the result"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_anything_runs(single, options, message):
    with pytest.raises(ValueError, match=message):
        started(single, mlp(), **options)
    with pytest.raises(
        TypeError, match=r"model must be a torch.nn.Module or a function that makes one, got str"
    ):
        started(single, "a model")
