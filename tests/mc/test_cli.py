"""`thinned mc compare`: saved programs and factories, what it writes, and what it says when it cannot."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import thinned.torch
from thinned._installed import install
from thinned.cli import main
from thinned.cli._model import load

# torch's own, in export.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

QUICK = ("--samples", 10, "--resamples", 99, "--seed", 4)
FACTORY = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        torch.nn.Linear(16, 3),
    )

ready = make()
number = 3

def wrong():
    return "a model"
"""


class Attends(nn.Module):
    """Dropout only in numbers: of attention, and of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, dropout=0.4, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y, _ = self.lstm(x)
        y, _ = self.attention(y, y, y, need_weights=False)
        return self.head(y[:, -1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """factory.py, its state, data.npz, and the same model as a program exported in either mode."""
    path = tmp_path_factory.mktemp("cli")
    (path / "factory.py").write_text(FACTORY)
    model = load(f"{path / 'factory.py'}:make", None)
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model.eval()(x).argmax(dim=1)
    y[::5] = (y[::5] + 1) % 3
    np.savez(path / "data.npz", x=x.numpy(), y=y.numpy())
    torch.save(model.state_dict(), path / "state.pt")
    for mode in ("evaluation", "training"):
        save(model.train(mode == "training"), x, path / f"{mode}.pt2")
    return path


def save(model, x, path, *, dynamic=True, decomposed=False):
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    exported = torch.export.export(model, (x[:4],), dynamic_shapes=shapes)
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    return path


def run(*arguments):
    return CliRunner().invoke(main, ["mc", "compare", *(str(argument) for argument in arguments)])


def report(*arguments):
    result = run(*arguments, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def told(folder):
    return report(f"{folder / 'factory.py'}:make", folder / "data.npz")


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-6)
    return one == other


def test_a_report_has_its_parts(told):
    assert [rung["k"] for rung in told["averages"]] == [1, 2, 5, 10]
    assert told["key"] == {"seed": 4, "stream": 0}
    assert (told["inputs"], told["samples"]) == (60, 10)
    assert told["averages"][0]["values"]["error"]["value"] > told["weight_scaling"]["error"]["value"]


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_a_program_of_either_mode_gives_what_its_model_gives(folder, told, mode):
    """Exported in training, batch normalisation would move its statistics, and weight scaling would drop."""
    assert close(report(folder / f"{mode}.pt2", folder / "data.npz"), told)


def test_other_ways_to_the_same_model(folder, told, monkeypatch):
    other = folder / "other.py"
    other.write_text(FACTORY.replace("manual_seed(0)", "manual_seed(9)"))
    assert close(report(f"{other}:make", folder / "data.npz", "--state", folder / "state.pt"), told)
    assert not close(report(f"{other}:make", folder / "data.npz"), told)
    monkeypatch.chdir(folder)
    assert close(report("factory:ready", "data.npz"), told)
    assert "" not in sys.path[:1]


def test_no_buffer_of_a_program_moves(folder):
    program = load(str(folder / "training.pt2"), None)
    before = {name: buffer.clone() for name, buffer in program.named_buffers()}
    assert "1.running_mean" in before
    program(torch.randn(8, 6))
    assert all(torch.equal(buffer, before[name]) for name, buffer in program.named_buffers())


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm:UserWarning")  # torch's own
def test_numbers_in_a_program_exported_in_training_are_reached(tmp_path):
    torch.manual_seed(0)
    model, x = Attends(), torch.randn(20, 5, 6)
    with torch.no_grad():
        y = model.eval()(x)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    told = report(save(model.train(), x, tmp_path / "a.pt2"), tmp_path / "data.npz", "--outputs", "values")
    assert told["weight_scaling"]["rmse"]["value"] < 1e-6
    assert told["averages"][-1]["values"]["rmse"]["value"] > 1e-3


def test_layers_of_ours_in_a_program_exported_in_training_are_reached(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 3), thinned.torch.nn.Dropout(0.5)).train()
    x = torch.randn(20, 6)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=model[0](x).detach().numpy())
    told = report(save(model, x, tmp_path / "a.pt2"), tmp_path / "data.npz", "--outputs", "values")
    assert told["weight_scaling"]["rmse"]["value"] < 1e-6
    assert told["averages"][-1]["values"]["rmse"]["value"] > 1e-3


def test_what_is_written_is_what_is_printed(folder, tmp_path):
    page, facts = tmp_path / "report.md", tmp_path / "report.json"
    result = run(folder / "evaluation.pt2", folder / "data.npz", *QUICK, "--out", page, "--out", facts)
    assert result.exit_code == 0, result.output
    shown, saved = " ".join(result.stdout.split()), json.loads(facts.read_text())
    assert saved["reason"] in shown
    assert saved["reason"] in page.read_text()
    assert f"{saved['weight_scaling']['nll']['value']:.4f}" in shown
    assert f"Reportwrittento{facts}" in "".join(shown.split())  # the terminal breaks a long path


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("static.pt2", (), "takes batches of 4 inputs and no others: export it with dynamic_shapes="),
        ("plain.pt2", (), "has no dropout left: export model.train()"),
        ("decomposed.pt2", (), "has no dropout left"),
        ("ours.pt2", (), "not the dropout of MultiheadAttention or of thinned's layers"),
        ("missing.pt2", (), "cannot read"),
        ("data.npz", (), "MODEL must be a program (.pt2), package.module:factory or file.py:factory"),
        ("factory.py:made", (), "has no 'made': it has"),
        ("factory.py:wrong", (), "must make a torch.nn.Module without arguments, got str"),
        ("factory.py:number", (), "must make a torch.nn.Module without arguments, got int"),
        ("nowhere.py:make", (), "there is no file"),
        ("no.such.module:make", (), "there is no module 'no'"),
        ("factory.py:make", ("--state", "data.npz"), "as the model's weights (--state)"),
        ("evaluation.pt2", ("--state", "state.pt"), "is a program, which has its weights in it"),
        ("evaluation.pt2", ("--outputs", "probabilities"), 'pass outputs="logits" for scores'),
        ("evaluation.pt2", ("--out", "report.txt"), "must end in .json or .md"),
        ("evaluation.pt2", ("--samples", "1"), "--samples"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_what_to_do(folder, monkeypatch, model, more, says):
    monkeypatch.chdir(folder)
    x, linear = torch.randn(8, 6), nn.Linear(6, 3)
    made = {
        "static.pt2": lambda path: save(nn.Sequential(linear, nn.Dropout(0.5)), x, path, dynamic=False),
        "plain.pt2": lambda path: save(nn.Sequential(linear, nn.Dropout(0.0)), x, path),
        "decomposed.pt2": lambda path: save(
            nn.Sequential(linear, nn.Dropout(0.5)).eval(), x, path, decomposed=True
        ),
        "ours.pt2": lambda path: save(nn.Sequential(linear, thinned_dropout()).eval(), x, path),
    }
    if model in made:
        made[model](folder / model)
    result = run(model, "data.npz", *QUICK, *more)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert not result.stdout


def thinned_dropout():
    from thinned.torch.nn import Dropout

    return Dropout(0.5)


def test_data_without_labels_are_refused(folder, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 6)), label=np.ones(3))
    result = run(folder / "evaluation.pt2", tmp_path / "a.npz")
    assert result.exit_code == 2
    assert "has no array y, but x, label: save it by numpy.savez(path, x=inputs, y=labels)" in " ".join(
        result.stderr.split()
    )
    (tmp_path / "b.npz").write_text("no archive")
    result = run(folder / "evaluation.pt2", tmp_path / "b.npz")
    assert result.exit_code == 2
    assert "as .npz" in result.stderr


def test_a_model_that_fails_is_named_with_the_shape(folder, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 5), np.float32), y=np.zeros(3, int))
    result = run(f"{folder / 'factory.py'}:make", tmp_path / "a.npz")
    assert result.exit_code == 1
    assert "fails on x of shape (3, 5)" in " ".join(result.stderr.split())


@pytest.mark.full  # tests/tools holds the same of the demo, and structure/test_extras.py of the modules
@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("torchmetrics", "compare {0}/evaluation.pt2 {0}/data.npz", "mc"),
        ("ray", "predict a.py:make b.parquet --out c", "ray"),
    ],
)
def test_it_names_the_extra_it_needs(folder, package, command, extra):
    """In a process of its own: this one has imported what is missing there."""
    arguments = ["mc", *command.format(folder).split()]
    program = (
        f"import sys; sys.modules[{package!r}] = None\nfrom thinned.cli import main\nmain({arguments!r})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"{package} is not installed, and this needs it: {install(extra)}" in result.stderr


def test_help_of_the_group_and_its_command():
    assert "compare" in CliRunner().invoke(main, ["mc", "--help"]).stdout
    assert "DATA.npz" in run("--help").stdout or "npz" in run("--help").stdout
    predict = CliRunner().invoke(main, ["mc", "predict", "--help"]).stdout
    assert "thinned mc predict model.py:make inputs/ --out predictions --workers 4" in " ".join(
        predict.split()
    )
