"""Damaged files and programs: one line, status 2, nothing unpickled, nothing left behind."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_runs import assert_refused, run

import thinned
from thinned._files import UnreadableError, reading, replacing

pytestmark = pytest.mark.usefixtures("here")

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
    "complex y": ({"x": np.ones((3, 6)), "y": np.ones(3, complex)}, "must be real numbers"),
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
