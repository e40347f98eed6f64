"""Every command with every kind of wrong input: one line, status 2, no traceback, nothing left behind.

The commands are found, not listed: a new one falls into these tests, and has to say in `RUNS` how it is run.
"""

import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import thinned
from thinned._files import UnreadableError, reading, replacing
from thinned.cli import main
from thinned.cli._console import OutPath

FACTORY = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
"""

# How each command is run: what it takes, without its options. A path is one of the files of `folder`.
RUNS = {
    "info": (),
    "mask": ("3,4", "-p", "0.5"),
    "averages": ("--size", "9", "--masks", "2"),
    "conformance": ("--backend", "numpy"),
    "demo": ("--quick",),
    "bench": ("dense", "--quick"),
    "mc compare": ("factory.py:make", "data.npz", "--samples", "4", "--resamples", "99"),
    "mc predict": ("factory.py:make", "data.npy", "--samples", "4", "--out", "predictions"),
}
SLOW = {"demo", "bench", "mc predict", "conformance"}  # these are only given what is refused before any work


def commands(group=main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def run(*arguments, **options):
    return CliRunner(**options).invoke(main, [str(argument) for argument in arguments])


def assert_refused(result, *says):
    """An error of the command line; what `invoke` hands back besides would have been a traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.stderr
    for text in says:
        assert text in " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs")
    (path / "factory.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    np.savez(path / "data.npz", x=x, y=y)
    np.save(path / "data.npy", x)
    return path


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    """Run in the folder, which is afterwards as it was."""
    monkeypatch.chdir(folder)
    before = sorted(os.listdir(folder))
    yield
    assert sorted(os.listdir(folder)) == before


def test_every_command_says_how_it_is_run():
    assert set(COMMANDS) == set(RUNS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("charset", ["ascii", "cp1252"])
def test_help_on_any_terminal(command, charset):
    result = run(*command.split(), "--help", charset=charset)
    assert result.exit_code == 0, repr(result.exception)
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - SLOW))
@pytest.mark.parametrize("charset", ["ascii", "cp1252"])
def test_results_on_any_terminal(command, charset):
    """Outputs have ×, …, − and Σ."""
    result = run(*command.split(), *RUNS[command], charset=charset)
    assert result.exit_code == 0, repr(result.exception)
    assert result.stdout


def options(kind):
    """The options of each command that have a type, and how they are spelt."""
    return [
        pytest.param(name, option.opts[-1], id=f"{name} {option.opts[-1]}")
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.type, kind)
    ]


def test_all_that_is_written_is_an_out_path():
    """Which is looked at before any work, and written as a whole."""
    for name, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option.type, click.Path) and not option.type.exists:
                assert isinstance(option.type, OutPath), f"{name} {option.opts[-1]}"


@pytest.mark.parametrize(("command", "option"), options(OutPath))
def test_what_cannot_be_written_is_refused_before_any_work(command, option, folder):
    arguments = [a for a in RUNS[command] if option != "--out" or a not in ("--out", "predictions")]
    result = run(*command.split(), *arguments, option, folder / "nowhere" / "out.json")
    assert_refused(result, f"'{option}'", "there is no directory")
    wrong = folder / "data.npy" if COMMANDS[command].name == "predict" else folder
    assert_refused(run(*command.split(), *arguments, option, wrong), f"'{option}'")


@pytest.mark.parametrize(("command", "option"), options((click.IntRange, click.FloatRange)))
@pytest.mark.parametrize("value", ["-1", "many", "1e", "٣x", ""], ids=str)
def test_a_number_out_of_range_names_its_option(command, option, value):
    result = run(*command.split(), *RUNS[command], f"{option}={value}")
    assert_refused(result, f"'{option}'")


@pytest.mark.parametrize(
    "shape", ["1000000000000", "9" * 19, "9" * 30, "9" * 5000, "-3", "3,,4", "", "3.0", "²"]
)
def test_mask_of_a_wrong_shape(shape):
    assert_refused(run("mask", "-p", "0.5", "--", shape))


def test_no_memory_is_one_line(monkeypatch):
    def keep_mask(*_, **__):
        raise MemoryError("931. GiB")

    monkeypatch.setattr(sys.modules["thinned.cli.mask"], "keep_mask", keep_mask)
    assert_refused(run("mask", "9", "-p", "0.5"), "not enough memory: 931. GiB")


# Files.

DAMAGE = {
    "empty": lambda good: b"",
    "text": lambda good: b"no such format\n" * 9,
    "truncated": lambda good: good[: len(good) // 2],
    "cut short": lambda good: good[:-1],
    "header only": lambda good: good[:12],
    "flipped in front": lambda good: good[:2] + bytes([good[2] ^ 255]) + good[3:],
}


def damaged(folder, source, how):
    path = folder / f"damaged{source.suffix}"
    path.write_bytes(DAMAGE[how](source.read_bytes()))
    return path


@pytest.fixture
def wrong(folder):
    """Makes a damaged file, and takes it away."""
    made = []

    def make(source, how):
        made.append(damaged(folder, source, how))
        return made[-1]

    yield make
    for path in made:
        path.unlink()


@pytest.mark.parametrize("how", DAMAGE)
def test_compare_on_damaged_data(folder, wrong, how):
    path = wrong(folder / "data.npz", how)
    assert_refused(run("mc", "compare", "factory.py:make", path), str(path), "cannot read")


def test_compare_on_a_flipped_byte_of_the_data(folder):
    good = (folder / "data.npz").read_bytes()
    place = len(good) // 3  # inside x: the archive's checksum tells
    path = folder / "damaged.npz"
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert_refused(run("mc", "compare", "factory.py:make", path), str(path), "cannot read")
    path.unlink()


WRONG_ARRAYS = {
    "0-d x": ({"x": np.float32(1), "y": np.zeros(3, int)}, "x must have a row for each input, got shape ()"),
    "0-d y": ({"x": np.ones((3, 6)), "y": np.int64(1)}, "y must have a row for each input, got shape ()"),
    "no rows": ({"x": np.ones((0, 6)), "y": np.zeros(0, int)}, "x must have a row for each input"),
    "text": ({"x": np.array(["a", "b"]), "y": np.zeros(2, int)}, "x must hold numbers, got <U1"),
    "no y": ({"x": np.ones((3, 6))}, "has no array y"),
    "none": ({}, "has no array x and no y"),
    "objects": ({"x": np.array([None, 1]), "y": np.zeros(2, int)}, "cannot read"),
    "lengths": ({"x": np.ones((3, 6)), "y": np.zeros(2, int)}, "x and y must have as many inputs"),
    "labels": ({"x": np.ones((3, 6)), "y": np.full(3, 7)}, "labels must be in [0, 3)"),
    "one-hot": ({"x": np.ones((3, 6)), "y": np.ones((3, 3), int)}, "labels must have shape (3,)"),
    "complex y": ({"x": np.ones((3, 6)), "y": np.ones(3, complex)}, "labels must be integers"),
}


@pytest.mark.parametrize("kind", WRONG_ARRAYS)
def test_compare_on_wrong_arrays(folder, kind):
    arrays, says = WRONG_ARRAYS[kind]
    path = folder / "arrays.npz"
    np.savez(path, **arrays)
    result = run("mc", "compare", "factory.py:make", path, "--samples", 4, "--resamples", 99)
    assert_refused(result, says)
    path.unlink()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def make(:", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def make():\n    return {}['a']", "KeyError: 'a'"),
        ("def make(size):\n    pass", "TypeError: make() missing"),
        ("make = 3", "must make a torch.nn.Module"),
        ("raise ValueError('of its own')", "ValueError: of its own"),
    ],
)
def test_a_factory_that_fails_says_where(folder, code, says):
    (folder / "fails.py").write_text(code)
    assert_refused(run("mc", "compare", "fails.py:make", "data.npz"), "fails.py", says)
    (folder / "fails.py").unlink()


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.parquet"])
def test_files_for_predict_that_are_damaged(folder, how, name, tmp_path, monkeypatch):
    """As `mc predict` reads them, without a cluster."""
    ray_read = pytest.importorskip("thinned.mc.ray._read")
    monkeypatch.setattr(ray_read.ray.data, "from_items", lambda *_, **__: pytest.fail("was taken for good"))
    source = folder / name
    if name == "data.parquet":
        source = tmp_path / name
        arrow = pytest.importorskip("pyarrow")
        __import__("pyarrow.parquet").parquet.write_table(arrow.table({"x": np.arange(99.0)}), source)
    if (name, how) == ("data.parquet", "flipped in front"):
        pytest.skip("a reader of Parquet begins at the end")
    path = damaged(tmp_path, source, how)
    with pytest.raises(ValueError, match="damaged") as error:
        ray_read.read(path, columns=["x"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.npy", "missing.parquet", "missing/"])
def test_files_for_predict_that_are_not_there(name):
    ray_read = pytest.importorskip("thinned.mc.ray._read")
    with pytest.raises(ValueError, match="there is no file 'missing"):
        ray_read.read(name)


# Programs.


@pytest.fixture(scope="module")
def program(folder, tmp_path_factory):
    torch = pytest.importorskip("torch")
    from thinned.cli._model import load

    path = tmp_path_factory.mktemp("program") / "good.pt2"
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    model = load(f"{folder / 'factory.py'}:make", None).train()
    torch.export.save(torch.export.export(model, (torch.ones(4, 6),), dynamic_shapes=shapes), path)
    return path


class Touches:
    """What is unpickled makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewritten(program, path, part, content):
    """A program with one part in place of its own, or besides."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), content if part in name else old.read(name))
        if not any(part in name for name in old.namelist()):
            new.writestr(zipfile.ZipInfo(f"good/{part}"), content)
    return path


@pytest.mark.parametrize("part", ["data/sample_inputs/model.pt", "data/constants/opaque_obj_0"])
def test_a_program_is_not_unpickled(program, tmp_path, part):
    torch = pytest.importorskip("torch")
    mark, content = tmp_path / "unpickled", io.BytesIO()
    if part.endswith(".pt"):
        torch.save((Touches(mark),), content)
    else:
        pickle.dump(Touches(mark), content)
    path = rewritten(program, tmp_path / "a.pt2", part, content.getvalue())
    assert_refused(run("mc", "compare", path, "data.npz"), str(path), "code")
    assert not mark.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_weights_are_not_unpickled_whatever_the_environment_says(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark = tmp_path / "unpickled"
    torch.save(Touches(mark), tmp_path / "state.pt")
    result = run("mc", "compare", "factory.py:make", "data.npz", "--state", tmp_path / "state.pt")
    assert_refused(result, "state.pt", "holds")
    assert not mark.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_program(program, tmp_path, how):
    path = damaged(tmp_path, program, how)
    assert_refused(run("mc", "compare", path, "data.npz"), str(path), "cannot read")


@pytest.mark.parametrize(
    "part", ["models/model.json", "weights/model_weights_config.json", "archive_version"]
)
def test_a_program_with_a_part_of_nonsense(program, tmp_path, part):
    path = rewritten(program, tmp_path / "a.pt2", part, b'{"a": [1, {')
    assert_refused(run("mc", "compare", path, "data.npz"), str(path), "cannot read")


# The place that does it.


def test_whatever_a_reader_raises_is_one_line():
    for error in (
        EOFError(),
        KeyError("a"),
        AssertionError("two\nlines"),
        zipfile.BadZipFile("bad"),
        OSError(5, "I/O"),
    ):
        with (
            pytest.raises(UnreadableError, match=r"cannot read 'a\.x' as things: ") as told,
            reading("a.x", "things"),
        ):
            raise error
        assert "\n" not in str(told.value)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")
    path.chmod(0o640)

    def fails():
        with replacing(path) as beside:
            beside.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]
    assert path.read_text() == "before"
    with replacing(path) as beside:
        assert beside.suffix == ".txt"
        beside.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    with replacing(link) as beside:
        beside.write_text("through the link")
    assert link.is_symlink()
    assert path.read_text() == "through the link"
    with replacing(tmp_path / "folder") as beside:
        beside.mkdir()
        (beside / "a").write_text("a")
    assert (tmp_path / "folder" / "a").read_text() == "a"


def test_a_disk_that_is_full():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    assert_refused(run("mask", "9999", "-p", "0.5", "--out", "/dev/full"), "--out: cannot write '/dev/full'")


def test_a_code_path_that_there_is_not(monkeypatch):
    code = compile(Path(thinned._kernel.__file__).read_text(), "_kernel.py", "exec")
    monkeypatch.setenv("THINNED_ISA", "nothing")
    monkeypatch.setattr("sys.argv", ["/usr/bin/thinned"])
    with pytest.raises(SystemExit) as end:
        exec(code, {"__name__": "kernel"})
    assert end.value.code == 2
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(RuntimeError, match="THINNED_ISA=nothing: this machine offers"):
        exec(code, {"__name__": "kernel"})
