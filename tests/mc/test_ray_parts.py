"""What a worker of `thinned.mc.ray` does, without Ray: rows by index, the same whatever comes with them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinned import Key
from thinned.cli import _ray
from thinned.mc import SilentError, predict
from thinned.mc.ray import _read
from thinned.mc.ray._chunking import chunks
from thinned.mc.ray._worker import Plan, Worker

KEY = Key(2**63 + 5, 11)
NAMES = ("mean", "std", "predictive_entropy", "mutual_information", "variation_ratio")


# As a worker has it: a matrix product rounds by its threads too.
pytestmark = pytest.mark.usefixtures("one_thread")


def mlp():
    """Of sizes at which a row's bits do depend on how many rows there are, and on its place among them."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(37, 129),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(129, 129),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(129, 10),
    ).eval()


def rows(n=96):
    return torch.randn(n, 37, generator=torch.Generator().manual_seed(1)).numpy()


def worker(model, **options):
    plan = {
        "inputs": "x",
        "index": "index",
        "samples": 12,
        "key": KEY,
        "outputs": "logits",
        "shared": False,
        "batch_size": 32,
        "memory": 2**30,
        "tolerance": None,
        "also": (),
        "keep_columns": (),
        "threads": 1,
        "device": None,
    }
    return Worker(Plan(**{**plan, **options}), lambda: model)


def batches(columns, parts):
    return [{name: column[part] for name, column in columns.items()} for part in parts]


def by_index(found):
    whole = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    order = np.argsort(whole["index"], kind="stable")
    return {name: column[order] for name, column in whole.items()}


def check_equal(found, want):
    for name in want:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)


def check_predicted(found, want):
    """Equal to the bit with what `predict` gives."""
    for name in NAMES:
        if getattr(want, name) is not None:
            np.testing.assert_array_equal(found[name], getattr(want, name), err_msg=name)
            error = getattr(want.standard_error, name)
            np.testing.assert_array_equal(found[f"{name}_standard_error"], error, err_msg=name)
    np.testing.assert_array_equal(found["samples"], want.samples)


@given(st.lists(st.integers(0, 2**59), min_size=1, max_size=80), st.integers(1, 20))
def test_every_row_is_in_its_slot_once(numbers, size):
    numbers, seen = np.array(numbers), []
    for places, own in chunks(numbers, size):
        assert len(places) == len(own) == size
        assert np.array_equal(numbers[places[own]] % size, np.flatnonzero(own))
        seen.extend(places[own])
    assert sorted(seen) == list(range(len(numbers)))


@given(st.integers(0, 2**40), st.integers(0, 100), st.integers(1, 20))
def test_rows_that_follow_one_another_waste_no_chunk(first, rows, size):
    assert len(list(chunks(np.arange(first, first + rows), size))) == -(-rows // size)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"outputs": "values"},
        {"shared": True},
        {"memory": 400_000},
        {"tolerance": 0.004, "samples": 60},
    ],
    ids=str,
)
def test_a_row_is_the_same_to_the_bit_whatever_comes_with_it(options):
    model, x = mlp(), rows()
    columns = {"x": x, "index": np.arange(96), "label": np.arange(96) * 3}
    want = by_index([worker(model, **options)(columns)])
    settings = {"samples": 12, "outputs": "logits", "batch_size": 32, **options}
    check_predicted(want, predict(model, x, key=KEY, **settings))
    if "tolerance" in options:
        assert len(set(want["samples"].tolist())) > 2
    shuffled = np.random.default_rng(0).permutation(96)
    for parts in (
        [slice(0, 1), slice(1, 40), slice(40, 41), slice(41, 96)],
        [slice(60, 96), slice(0, 60)],
        [shuffled[:50], shuffled[50:]],
    ):
        one = worker(model, keep_columns=("label",), **options)
        found = by_index([one(batch) for batch in batches(columns, parts)])
        np.testing.assert_array_equal(found.pop("label"), columns["label"])
        check_equal(found, want)


def test_the_model_above_would_show_it():
    """Without chunks of one size, and without slots, some bits differ: else the test above could not fail."""
    model, x = mlp(), torch.from_numpy(rows())
    whole = predict(model, x, samples=12, key=KEY, batch_size=32)
    differ = []
    for first, stop in ((0, 33), (5, 37)):
        part = predict(model, x[first:stop], samples=12, key=KEY, first=first)
        np.testing.assert_allclose(part.mean, whole.mean[first:stop], rtol=1e-4, atol=1e-6)
        differ.append(not np.array_equal(part.mean, whole.mean[first:stop]))
    if not all(differ):
        pytest.skip("this machine's matrix products round alike at every shape: equal bits prove little here")


def test_another_key_and_another_index_give_something_else():
    x = rows(32)
    want = worker(mlp())({"x": x, "index": np.arange(32)})["mean"]
    assert (worker(mlp(), key=Key(1))({"x": x, "index": np.arange(32)})["mean"] != want).any(axis=1).all()
    assert (worker(mlp())({"x": x, "index": np.arange(1, 33)})["mean"] != want).any(axis=1).all()


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop = torch.nn.Linear(37, 5), torch.nn.Dropout(0.5)

    def forward(self, a, b):
        return self.drop(self.first(a)) + b[..., None]


@pytest.mark.parametrize("inputs", [("left", "right"), {"b": "right", "a": "left"}], ids=str)
def test_a_model_may_take_several_columns(inputs):
    torch.manual_seed(0)
    model, a, b = Two(), rows(64), np.arange(64.0)
    found = worker(model, inputs=inputs, outputs="values")({"left": a, "right": b, "index": np.arange(64)})
    check_predicted(found, predict(model, (a, b), samples=12, key=KEY, batch_size=32))


class Summed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x).cumsum(1)


def test_rows_may_differ_in_shape():
    """As pyarrow's lists come: arrays in an array of objects; and lists of lists."""
    sizes = [3, 5, 3, 3, 5, 4] * 6
    ragged = np.empty(36, object)
    ragged[:] = [np.arange(1.0, size + 1, dtype=np.float32) for size in sizes]
    found = worker(Summed(), outputs="values", batch_size=4)({"x": ragged, "index": np.arange(36)})
    for row, size in enumerate(sizes):
        alone = predict(Summed(), ragged[row][None], samples=12, key=KEY, first=row)
        assert found["mean"][row].shape == (size,)
        np.testing.assert_array_equal(found["mean"][row], alone.mean[0])
    nested = np.empty(4, object)
    nested[:] = [[[1.0, 2.0], [3.0, 4.0]]] * 4
    assert worker(Summed(), outputs="values")({"x": nested, "index": np.arange(4)})["mean"].shape == (4, 2, 2)


def test_a_worker_makes_and_traces_its_model_once():
    class Counted(torch.nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            Counted.calls += 1
            return self.inner(x)

    made = []
    one = Worker(worker(None)._plan, lambda: made.append(Counted()) or made[-1])
    columns, after = {"x": rows(), "index": np.arange(96)}, []
    for batch in batches(columns, [slice(0, 10), slice(10, 50), slice(50, 96)]):
        one(batch)
        after.append(Counted.calls)
    assert len(made) == 1
    assert after[0] > 0
    assert after == [after[0]] * 3


# What is refused, and said.


def test_a_model_in_which_nothing_draws_is_an_error():
    silent = torch.nn.Sequential(torch.nn.Linear(37, 2), torch.nn.Dropout(0.0))
    with pytest.raises(
        SilentError, match=r"all samples of all inputs are equal: Sequential has nothing that drops"
    ):
        worker(silent)({"x": rows(5), "index": np.arange(5)})


def test_rows_without_a_spread_are_none():
    """A part cannot know of the whole: what its own inputs give may be constant, rightly."""
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.ReLU())
    found = worker(model, outputs="values")({"x": -(rows(5) ** 2), "index": np.arange(5)})
    assert not found["std"].any()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"y": 0}, {}, "the dataset has no column 'x': it has 'index', 'y'"),
        ({"x": 0}, {"keep_columns": ("z",)}, "has no column 'z'"),
        (
            {"x": 0, "index": np.array([0.0, np.nan])},
            {},
            "index='index' must be a column of integers, .* float64",
        ),
        ({"x": 0, "index": np.array([0, -1])}, {}, r"index='index' must be in \[0, 2\^60\), got -1 … 0"),
        ({"x": np.array(["a", "b"])}, {}, "column 'x' must hold numbers in every row, got <U1"),
        ({"x": 0}, {"memory": 1}, "memory=1 bytes are too few"),
    ],
    ids=str,
)
def test_wrong_columns_are_named(columns, options, message):
    columns = {"index": np.arange(2), **columns}
    batch = {name: rows(2) if isinstance(column, int) else column for name, column in columns.items()}
    with pytest.raises(ValueError, match=message):
        worker(mlp(), **options)(batch)


def test_a_model_must_be_one():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got"):
        worker("a model")({"x": rows(2), "index": np.arange(2)})


# Files, and the numbers of their rows.


def read_back(parts, **options):
    columns = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    return list(_read._tables(columns, options.get("columns"), options.get("numbered", True)))


@pytest.fixture
def parquet(tmp_path):
    """Rows 0 … 99 in files of several row groups, one of them empty."""
    for name, first, stop in (("b", 40, 40), ("a", 0, 40), ("c", 40, 100)):
        table = pa.table({"x": list(range(first, stop)), "label": ["l"] * (stop - first)})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=17)
    return tmp_path


def test_rows_of_parquet_files_are_numbered_in_order(parquet):
    files = _read._files(str(parquet))
    assert files == _read._files(str(parquet / "*.parquet")) == sorted(files)
    for chosen in (files, files[:1], files[2:]):
        tables = read_back(_read._of_parquet(chosen), columns=("x",))
        assert [table.column_names for table in tables] == [["x", "index"]] * len(tables)
        x, index = (np.concatenate([table[name] for table in tables]) for name in ("x", "index"))
        assert np.array_equal(x - x[0], index)
        assert np.array_equal(index, np.arange(len(index)))
    assert read_back(_read._of_parquet(files), numbered=False)[0].column_names == ["x", "label"]


def test_rows_of_arrays_are_numbered(tmp_path):
    x = np.arange(30.0).reshape(10, 3)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(10))
    for name, columns in (("a.npy", {"x", "index"}), ("a.npz", {"x", "y", "index"})):
        (file,) = _read._files(str(tmp_path / name))
        tables = read_back(_read._of_arrays(file, 4))
        assert [len(table["x"]) for table in tables] == [4, 4, 2]
        assert all(set(table) == columns for table in tables)
        np.testing.assert_array_equal(np.concatenate([table["x"] for table in tables]), x)
        np.testing.assert_array_equal(np.concatenate([table["index"] for table in tables]), np.arange(10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: _read._files(str(folder / "none.parquet")), "there is no file"),
        (lambda folder: _read._files(str(folder / "*.json")), "there is no file"),
        (lambda folder: _read._opened(str(folder / "not.parquet")), "cannot read .* as Parquet"),
        (lambda folder: _read._arrays(str(folder / "not.npz")), "cannot read .* as an array of NumPy's"),
        (lambda folder: _read._of_arrays(str(folder / "a.npz"), 4), "differ in their first axis"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, make, message):
    for name in ("not.parquet", "not.npz"):
        (tmp_path / name).write_text("something else")
    np.savez(tmp_path / "a.npz", x=np.ones(3), y=np.ones(4))
    with pytest.raises(ValueError, match=message):
        make(tmp_path)


def written(folder, **columns):
    pq.write_table(pa.table({name: list(column) for name, column in columns.items()}), folder / "a.parquet")
    return folder


def test_what_was_written_is_looked_over(tmp_path):
    """Of lists, as outputs of one shape are; of shapes beside lists, as others are; and of numbers."""
    lists = {"std": [[0.0, 0.2], [0.1, 0.0]], "mean_standard_error": [[0.0, 0.02], [0.03, 0.0]]}
    numbers = {name: [max(row) for row in column] for name, column in lists.items()}
    ragged = {name: [{"data": row, "shape": [2]} for row in column] for name, column in lists.items()}
    for columns in (lists, numbers, ragged):
        facts = _ray._looked_over(written(tmp_path, **columns, samples=[10, 20]))
        assert (facts["inputs"], facts["samples"], facts["files"]) == (2, [10, 20], 1)
        assert facts["mean_standard_error"] == 0.03
    still = {**lists, "std": [[0.0, 0.0]] * 2}
    with pytest.raises(_ray.NotPredicted, match="all samples of all inputs are equal: sites drew, but"):
        _ray._looked_over(written(tmp_path, **still, samples=[10, 20]))


class Untraceable(torch.nn.Module):
    """Its way depends on a number of the input, which no trace can see."""

    def __init__(self):
        super().__init__()
        self.drop, self.calls = torch.nn.Dropout(0.5), 0

    def forward(self, x):
        self.calls += 1
        return self.drop(x) * (2 if x.sum().item() > 0 else 1)


@pytest.mark.filterwarnings("ignore:model cannot be traced:UserWarning")
def test_a_model_that_cannot_be_traced_runs_for_its_own_rows_alone():
    """And not for those that fill a chunk of 256 slots: one row took 5,122 passes with 20 samples."""
    model = Untraceable()
    one = worker(model, batch_size=256, samples=20, outputs="values")
    x = rows(3)
    found = one({"x": x[:1], "index": np.array([7])})
    assert model.calls < 20 + 10
    both = one({"x": x[[2, 0]], "index": np.array([300, 7])})
    np.testing.assert_array_equal(both["mean"][1], found["mean"][0])
    assert list(both["index"]) == [300, 7]
    assert model.calls < 3 * 20 + 20
