"""Files, comments and settings as people have them."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("libcst")

from thinned.audit import check, check_file, check_text
from thinned.cli import main

WRONG = "import torch.nn.functional as F\ny = F.dropout(x, 0.5)"


def codes(found):
    return [one.code for one in found]


def cell(source, kind="code"):
    return {"cell_type": kind, "source": source, "metadata": {}}


def notebook(path, *cells):
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4}))
    return check_file(path)


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# noqa", True),
        ("# noqa: E501,THN101", True),
        ("# noqa:THN101 # why", True),
        ("# type: ignore # noqa: THN101", True),
        ("# noqa: THN1", False),
        ("# noqa: THN102", False),
        ("# no noqa", False),
        ('+ "# noqa"', False),
    ],
)
def test_comments_at_the_end_of_a_line(comment, silent):
    assert codes(check_text(f"{WRONG}  {comment}\n")) == ([] if silent else ["THN101"])


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# ruff: noqa", True),
        ("# ruff: noqa: THN101", True),
        ("# flake8: noqa: E501, THN101", True),
        ("# ruff: noqa: THN102", False),
        ('"""# ruff: noqa"""', False),
    ],
)
def test_comments_for_a_file(comment, silent):
    assert codes(check_text(f"{comment}\n{WRONG}\n")) == ([] if silent else ["THN101"])


def test_a_file_is_read_once_by_whatever_paths_it_is_named(tmp_path):
    (tmp_path / "a.py").write_text(WRONG)
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    paths = [tmp_path / "a.py", tmp_path, tmp_path / ".." / tmp_path.name / "a.py"]
    assert codes(check(paths)) == ["THN101"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", []),
        (b"\xef\xbb\xbf" + WRONG.encode(), ["THN101"]),
        (WRONG.replace("\n", "\r").encode(), ["THN101"]),
        (b"# -*- coding: nosuch -*-\n" + WRONG.encode(), ["THN000"]),
        (WRONG.encode() + b"\0", ["THN000"]),
        (b"print dropout, 1\nfrom torch.nn.functional import dropout as d\nd(x)", ["THN000"]),
    ],
    ids=["empty", "byte order mark", "carriage returns", "unknown encoding", "zero byte", "Python 2"],
)
def test_bytes_of_all_kinds(tmp_path, content, found):
    file = tmp_path / "a.py"
    file.write_bytes(content)
    assert codes(check_file(file)) == found


def test_an_unknown_encoding_is_named(tmp_path):
    (tmp_path / "a.py").write_bytes(b"# -*- coding: nosuch -*-\n# dropout\n")
    assert "unknown encoding: nosuch" in check_file(tmp_path / "a.py")[0].what


def test_a_file_that_may_not_be_read_is_a_finding(tmp_path, monkeypatch):
    file = tmp_path / "a.py"
    file.write_text(WRONG)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    [found] = check_file(file)
    assert (found.code, found.what) == ("THN000", "The file cannot be read: Permission denied.")


def test_a_cell_that_is_no_python_does_not_hide_the_others(tmp_path):
    found = notebook(
        tmp_path / "a.ipynb",
        cell("if dropout:\nx = 1"),
        cell("if nothing:\nx = 1"),
        cell(WRONG + "\nz = 1"),
        cell("F.dropout(", "raw"),
    )
    assert [(one.code, one.cell, one.start.line) for one in found] == [("THN000", 1, 2), ("THN101", 3, 2)]


@pytest.mark.parametrize(
    "other", ["pip install torch", "!ls \\\n  -l \\\n  dropout", "cd /tmp", "%%time\nif", "mkdir -p a/b"]
)
def test_lines_of_a_shell_are_no_mistake(tmp_path, other):
    found = notebook(tmp_path / "a.ipynb", cell(other), cell(WRONG))
    assert [(one.code, one.cell) for one in found] == [("THN101", 2)]


def test_a_value_that_a_notebook_shows_is_used(tmp_path):
    made = "from torch import nn\ndrop = nn.Dropout(0.5)\n"
    assert notebook(tmp_path / "a.ipynb", cell(made), cell("drop(x)")) == []
    for text in ("drop(x);", "drop(x)\ny = 1"):
        assert codes(notebook(tmp_path / "a.ipynb", cell(made), cell(text))) == ["THN109"]


def test_monte_carlo_in_a_notebook_that_trains_elsewhere(tmp_path):
    text = "dropout = [model(x, training=True) for _ in range(9)]"
    other = cell("import keras\nmodel.compile(optimizer='adam')")
    assert codes(notebook(tmp_path / "a.ipynb", other, cell(text))) == ["THN205"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tool = 3", "tool of [tool.thinned.audit] must be a table"),
        ("[tool]\nthinned = 3", "thinned of [tool.thinned.audit] must be a table"),
        ("[tool.thinned]\naudit = []", "audit of [tool.thinned.audit] must be a table"),
        ('[tool.thinned.audit]\nselect = ["THN9"]', "unknown rule 'THN9'"),
        ('[tool.thinned.audit]\nignore = ["X"]', "unknown rule 'X'"),
    ],
)
def test_a_wrong_setting_names_its_file(tmp_path, text, words):
    (tmp_path / "pyproject.toml").write_text(text)
    result = CliRunner().invoke(main, ["audit", str(tmp_path)])
    assert result.exit_code == 2
    assert "pyproject.toml" in result.output
    assert words in " ".join(result.output.split())


def test_beginnings_of_codes_select_rules(tmp_path):
    (tmp_path / "a.py").write_text(WRONG)
    for select, status in (("THN1", 1), ("thn101", 1), ("THN2,THN3", 0), ("ALL", 1), ("THN", 1)):
        arguments = ["audit", "--isolated", "--select", select, str(tmp_path)]
        assert CliRunner().invoke(main, arguments).exit_code == status
